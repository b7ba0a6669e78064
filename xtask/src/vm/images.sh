#!/usr/bin/env bash
# images.sh FOLDER – makes FOLDER, an OCI layout with the images i1 … i6: a layer that they share and two of their own each, of
# files of all sizes. Every layer brings the digests of its files in /sums.
set -euo pipefail
layout=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

add() { # IMAGE FOLDER
  (cd "$work/$2" && find . -type f ! -path './sums/*' -exec sha256sum {} + | sed 's#  \./#  /#' >"$work/sums")
  mkdir -p "$work/$2/sums"
  mv "$work/sums" "$work/$2/sums/$2"
  tar --numeric-owner --owner=0 --group=0 --sort=name -C "$work/$2" -cf "$work/layer.tar" .
  umoci raw add-layer --image "$layout:$1" "$work/layer.tar"
}

mkdir -p "$work/base/bin"
cp /bin/busybox "$work/base/bin/busybox"
for applet in cat sh sha256sum; do ln -s busybox "$work/base/bin/$applet"; done
umoci init --layout "$layout"
umoci new --image "$layout:base"
add base base
umoci config --image "$layout:base" --config.cmd sh --config.env PATH=/bin
for image in 1 2 3 4 5 6; do
  umoci tag --image "$layout:base" "i$image"
  for layer in a b; do
    folder=$work/$image$layer/data/$image$layer
    mkdir -p "$folder"
    for file in $(seq 60); do head -c $((file * file * 20)) /dev/urandom >"$folder/$file"; done
    for file in $(seq 20); do seq $((file * 1000)) >"$folder/text$file"; done
    add "i$image" "$image$layer"
  done
done
umoci rm --image "$layout:base"
umoci gc --layout "$layout" >/dev/null
