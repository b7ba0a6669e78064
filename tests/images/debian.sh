#!/usr/bin/env bash
# debian.sh FOLDER – makes FOLDER, an OCI layout with the image `debian`: what the examples start from, a Debian with apt and nothing more.
#
# It is the release and the mirror that this machine's apt uses. Certificates that somebody added to this machine are the image's, too: behind a
# proxy that looks into TLS, npm and pip get nothing without them.
set -euo pipefail
layout=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

read -r mirror suite < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Label: Debian')
: "${suite:?the machine has no Debian mirror in its apt sources; try: apt-get update}"

# As in Debian's own images for containers, dpkg leaves out manuals and translations also later.
mmdebstrap --quiet --variant=minbase --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$work/base.tar" "$mirror"

umoci init --layout "$layout"
umoci new --image "$layout:debian"
umoci raw add-layer --image "$layout:debian" "$work/base.tar"
mkdir -p "$work/local/usr/local/share/ca-certificates"
find /usr/local/share/ca-certificates -name '*.crt' -exec cp -t "$work/local/usr/local/share/ca-certificates" {} +
tar --numeric-owner --owner=0 --group=0 -C "$work/local" -cf "$work/local.tar" usr
umoci raw add-layer --image "$layout:debian" "$work/local.tar"
umoci config --image "$layout:debian" --config.cmd bash \
  --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umoci gc --layout "$layout" >/dev/null
