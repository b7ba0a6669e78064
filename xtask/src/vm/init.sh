#!/bin/busybox sh
# The first program of the virtual machine, in memory: what it takes to reach the root file system.
/bin/busybox mkdir -p /dev /root
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox insmod /virtio_blk.ko
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /guest.sh
