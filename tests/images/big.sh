#!/usr/bin/env bash
# big.sh FOLDER – makes FOLDER, an OCI layout with the image `big`: a Debian with compilers and interpreters of some 600 MB
# in eight layers of about one size, compressed by gzip. For measuring; the tests do without it.
set -euo pipefail
layout=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

read -r mirror suite < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Label: Debian')
: "${suite:?the machine has no Debian mirror in its apt sources; try: apt-get update}"

mmdebstrap --quiet --variant=minbase --include=build-essential,python3-dev,nodejs \
  "$suite" "$work/root" "$mirror"

# Directories are in every layer, as builders write them; all else goes where there is room.
(cd "$work/root" && find . -type d -printf '%P\0' | sort -z >"$work/folders")
(cd "$work/root" && find . ! -type d -printf '%b\t%P\n' | sort -k2 | awk -F'\t' -v prefix="$work/part" '
  { size[NR] = $1 + 2; name[NR] = $2; total += size[NR] }
  END { for (i = 1; i <= NR; i++) { sum += size[i]; part = int(sum * 8 / (total + 1)); print name[i] > (prefix part) } }')

umoci init --layout "$layout"
umoci new --image "$layout:big"
for part in 0 1 2 3 4 5 6 7; do
  { cat "$work/folders"; tr '\n' '\0' <"$work/part$part"; } |
    tar -C "$work/root" --null --no-recursion --verbatim-files-from --files-from=- --numeric-owner --xattrs -cf "$work/layer.tar"
  umoci raw add-layer --image "$layout:big" "$work/layer.tar"
done
umoci config --image "$layout:big" --config.cmd bash
umoci gc --layout "$layout" >/dev/null
