#!/usr/bin/env bash
# busybox.sh FOLDER – makes FOLDER, an OCI layout with the image `busybox`: Debian's static busybox and what the tests look at.
set -euo pipefail
layout=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

mkdir -p "$root"/{bin,etc,home/user,proc,sys,dev,root,tmp,var,data}
cp /bin/busybox "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\nextra:x:2000:user\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'not a program\n' >"$root/data/plain"
printf '#!/bin/missing\n' >"$root/data/orphan" && chmod 755 "$root/data/orphan"
printf 'garbage\n' >"$root/data/garbage" && chmod 755 "$root/data/garbage"
chmod 1777 "$root/tmp"
chown 1000:1000 "$root/home/user"

umoci init --layout "$layout"
umoci new --image "$layout:busybox"
tar --numeric-owner -C "$root" -cf "$work/root.tar" .
umoci raw add-layer --image "$layout:busybox" "$work/root.tar"
umoci config --image "$layout:busybox" --config.cmd sh --config.env PATH=/bin --config.env IMAGE=busybox
umoci gc --layout "$layout" >/dev/null
