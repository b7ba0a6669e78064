#!/usr/bin/env bash
# tiny.sh FOLDER – makes FOLDER, an OCI layout with the images `tiny` and `other`: two layers that they share and a third of
# their own, each of a few entries, so that taking one in is some dozens of system calls and not thousands.
set -euo pipefail
layout=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{base/bin,base/etc,change/etc,change/data,tiny/srv,other/srv}

# Layer 1: a program.
cp /bin/busybox "$work/base/bin/busybox"
for applet in cat echo sh true; do ln -s busybox "$work/base/bin/$applet"; done
printf 'old\n' >"$work/base/etc/old"

# Layer 2: a deletion, a hard link, an attribute, an empty folder.
touch "$work/change/etc/.wh.old"
printf 'new\n' >"$work/change/data/new"
ln "$work/change/data/new" "$work/change/data/same"
setfattr -n user.note -v kept "$work/change/data/new"

# Layer 3: what tells the images apart.
for name in tiny other; do printf '%s\n' "$name" >"$work/$name/srv/name"; done

add() { # IMAGE FOLDER
  tar --numeric-owner --owner=0 --group=0 --sort=name --xattrs --xattrs-include='user.*' -C "$work/$2" -cf "$work/layer.tar" .
  umoci raw add-layer --image "$layout:$1" "$work/layer.tar"
}

umoci init --layout "$layout"
umoci new --image "$layout:tiny"
add tiny base
add tiny change
umoci config --image "$layout:tiny" --config.cmd sh --config.env PATH=/bin
umoci tag --image "$layout:tiny" other
add tiny tiny
add other other
umoci gc --layout "$layout" >/dev/null
