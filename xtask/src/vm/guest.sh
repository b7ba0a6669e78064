#!/bin/busybox sh
# Process 1 of the virtual machine: makes sure that what was reported before the cut is there, then pulls and removes until the next one.
# It is told by the kernel's command line which images those are (cut.expect=) and what to begin with (cut.seed=).
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
modprobe -a overlay erofs
ip link set lo up 2>/dev/null || busybox ip link set lo up

# What is said has left the machine before anything else happens: changing a terminal's modes waits for its output.
say() {
  echo "CUT: $*" >/dev/ttyS0
  stty -F /dev/ttyS0 -echo
}
stop() {
  say "wrong: $*"
  while :; do busybox sleep 1000; done
}
try() {
  "$@" >/run/said 2>&1 || stop "$* said $(tail -c 600 /run/said | tr '\n' ' ')"
}

mkdir -p /run/registry /run/content /run/written /run/have /var/lib/tare
mount -t ext4 -o ro /dev/vdb /run/registry || stop "no registry"
mount -t tmpfs written /run/written
mkdir /run/written/upper /run/written/work
mount -t overlay -o lowerdir=/run/registry,upperdir=/run/written/upper,workdir=/run/written/work overlay /run/content || stop "no overlay"
mount -t ext4 /dev/vdc /var/lib/tare || stop "the store's file system cannot be mounted"
/tare registry serve --read-only --quiet --addr 127.0.0.1:5000 --root /run/content >/run/listens 2>&1 &
until grep -q http /run/listens; do busybox usleep 20000; done

expected= seed=1
for word in $(cat /proc/cmdline); do
  case $word in
    cut.expect=*) expected=$(echo "${word#*=}" | tr , ' ') ;;
    cut.seed=*) seed=${word#*=} ;;
  esac
done
works() {
  try /tare run --rm --network none --pull never "$1" sh -c 'cat /sums/* | sha256sum -c -s'
}

say booted
try /tare system check
for folder in blobs images layers; do
  [ -z "$(ls -A "/var/lib/tare/$folder/temporary" 2>/dev/null)" ] || stop "$folder/temporary: $(ls "/var/lib/tare/$folder/temporary")"
done
for image in $expected; do works "127.0.0.1:5000/$image"; done
# What was not reported may be there, but then it is whole.
for id in $(/tare images -a -q); do works "$id"; done
for image in 1 2 3 4 5 6; do
  ! /tare image inspect "127.0.0.1:5000/i$image" >/run/said 2>&1 || : >"/run/have/i$image"
done
say "verified $(echo "$expected" | wc -w)"

while :; do
  seed=$(((seed * 1103515245 + 12345) % 2147483648))
  image=i$((seed / 65536 % 6 + 1))
  if [ -e "/run/have/$image" ]; then
    say "removing $image"
    try /tare rmi "127.0.0.1:5000/$image"
    rm "/run/have/$image"
  else
    say "pulling $image"
    try /tare pull -q "127.0.0.1:5000/$image"
    : >"/run/have/$image"
    say "pulled $image"
  fi
done
