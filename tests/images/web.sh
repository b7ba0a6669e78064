#!/usr/bin/env bash
# web.sh FOLDER – makes FOLDER, an OCI layout with the image `web`: Debian with nginx in five layers.
#
# Nothing of tare takes part: mmdebstrap makes the base, apt inside it adds nginx, umoci makes the layers. The packages come
# from the mirror that this machine's apt uses. The later layers replace, delete and re-create what earlier ones hold, so that
# whiteouts, opaque folders, hard links and symbolic links of a real image are in it.
set -euo pipefail
layout=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

read -r mirror suite < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Label: Debian')
: "${suite:?the machine has no Debian mirror in its apt sources; try: apt-get update}"

umoci init --layout "$layout"
umoci new --image "$layout:web"

# Layer 1: the base system.
mmdebstrap --quiet --variant=minbase --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --skip=cleanup/apt/lists "$suite" "$work/base.tar" "$mirror"
umoci raw add-layer --image "$layout:web" "$work/base.tar"

# Layer 2: nginx, with Debian's rule that nothing is started while packages are installed in a chroot.
umoci unpack --image "$layout:web" "$work/bundle"
root=$work/bundle/rootfs
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
chroot "$root" apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends nginx >/dev/null
umoci repack --refresh-bundle --image "$layout:web" "$work/bundle"

# Layer 3: deletions (whiteouts) of what the layers below brought.
rm -rf "$root/usr/sbin/policy-rc.d" "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root/var/www/html/"*
umoci repack --refresh-bundle --image "$layout:web" "$work/bundle"

# Layer 4: the page; logs go where the engine reads them.
printf '<!doctype html>\n<title>web</title>\n<h1>Welcome to nginx!</h1>\n<p>Served by Debian %s.</p>\n' "$suite" \
  >"$root/var/www/html/index.html"
ln -sf /dev/stdout "$root/var/log/nginx/access.log"
ln -sf /dev/stderr "$root/var/log/nginx/error.log"
umoci repack --refresh-bundle --image "$layout:web" "$work/bundle"

# Layer 5: a folder that hides the one below (opaque), and a hard link beside a file of its own layer.
mkdir -p "$work/opaque/etc/nginx/sites-enabled" "$work/opaque/srv"
touch "$work/opaque/etc/nginx/sites-enabled/.wh..wh..opq"
cat >"$work/opaque/etc/nginx/sites-enabled/web" <<'SITE'
server {
    listen 80;
    root /var/www/html;
    location / { try_files $uri $uri/index.html =404; }
}
SITE
ln "$work/opaque/etc/nginx/sites-enabled/web" "$work/opaque/srv/site.conf"
tar --numeric-owner --owner=0 --group=0 -C "$work/opaque" -cf "$work/opaque.tar" etc srv
umoci raw add-layer --image "$layout:web" "$work/opaque.tar"

umoci config --image "$layout:web" --config.cmd nginx --config.cmd -g --config.cmd 'daemon off;' \
  --config.exposedports 80/tcp --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  --config.stopsignal SIGQUIT --config.label org.opencontainers.image.title=web
umoci gc --layout "$layout" >/dev/null
