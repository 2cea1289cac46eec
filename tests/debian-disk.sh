#!/usr/bin/env bash
# Makes a disk image with a small i386 Debian on it: one ext4 file system, without partitions.
#   tests/debian-disk.sh FILE    as root
# Debian's release and mirror are those that apt has here; DEBIAN_MIRROR=URL names another mirror.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

image="${1:?tests/debian-disk.sh needs the name of the image to make}"
release=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
mirror="${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $release" 'Origin: Debian' \
    'Component: main' | head -n 1)}"
if [ -z "$mirror" ]; then
    echo "tests/debian-disk.sh: apt has no source of Debian $release: add one, or name a mirror with DEBIAN_MIRROR=URL" >&2
    exit 1
fi
for scheme in http https; do # debootstrap goes the way that apt goes
    proxy=$(apt-config shell proxy "Acquire::$scheme::Proxy")
    [ -z "$proxy" ] || eval "export ${scheme}_$proxy"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
echo "making a disk with Debian $release"
if ! debootstrap --arch=i386 --variant=minbase "$release" "$work/tree" "$mirror" >"$work/log" 2>&1; then
    cat "$work/log" "$work/tree/debootstrap/debootstrap.log" >&2 || true
    exit 1
fi
# what no test looks at
rm -rf "$work/tree"/var/cache/apt/* "$work/tree"/var/lib/apt/lists/* "$work/tree"/usr/share/{doc,locale,man}/*
mke2fs -q -F -t ext4 -L debian -d "$work/tree" "$work/image" 224M
mv "$work/image" "$image"
chmod 644 "$image"
