#!/usr/bin/env bash
# Installs what the tests need, and runs all of them.
#   tests/run.sh                 everything that CI runs
#   tests/run.sh --fuzz N        and fuzz for N instructions (default 20 million)
#   tests/run.sh --boots N       and boot Linux N times (default 2) at random rates, on random processors, with random options
#   tests/run.sh --bench         and the benchmarks against other emulators, side by side
set -euo pipefail
cd "$(dirname "$0")/.."

fuzz=20000000
boots=2
bench=no
while [ $# -gt 0 ]; do
    case "$1" in
        --fuzz) fuzz="${2:?--fuzz needs a number of instructions}"; shift 2 ;;
        --boots) boots="${2:?--boots needs a number of boots}"; shift 2 ;;
        --bench) bench=yes; shift ;;
        *) echo "tests/run.sh: '$1' is no option; there are --fuzz N, --boots N and --bench" >&2; exit 2 ;;
    esac
done

need() { # COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}
missing=()
need gcc gcc
echo 'int main(void) { return 0; }' | gcc -m32 -static -x c -o /dev/null - 2>/dev/null || missing+=(gcc-multilib)
need qemu-system-i386 qemu-system-x86
need xorriso xorriso
need mformat mtools
need grub-mkrescue grub-common
need debootstrap debootstrap
need mke2fs e2fsprogs
[ -d /usr/lib/grub/i386-pc ] || missing+=(grub-pc-bin)
[ -e /usr/share/seabios/bios-256k.bin ] || missing+=(seabios)
if [ "$bench" = yes ]; then
    need bochs bochs
    [ -e /usr/share/bochs/BIOS-bochs-latest ] || missing+=(bochsbios vgabios bochs-term)
fi
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing: ${missing[*]}"
    if ! command -v apt-get >/dev/null || ! { as_root true; } 2>/dev/null; then
        echo "tests/run.sh: these Debian packages are missing and cannot be installed from here: ${missing[*]}" >&2
        exit 1
    fi
    as_root apt-get update -q || echo "apt-get update was not complete; going on with what there is" >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

# Kernels that nobody here wrote: taken from their packages, never installed, never committed.
images="$PWD/target/images"
mkdir -p "$images"
unpack() { # PACKAGE FOLDER
    if ! (cd "$2" && apt-get download -q "$1" >/dev/null 2>&1); then
        as_root dpkg --add-architecture i386
        as_root apt-get update -q || echo "apt-get update was not complete; going on with what there is" >&2
        (cd "$2" && apt-get download -q "$1")
    fi
    dpkg-deb -x "$2"/*.deb "$2/x"
}
fetch() { # PACKAGE PATH-IN-PACKAGE FILE
    [ -s "$images/$3" ] && return
    local work
    work=$(mktemp -d)
    unpack "$1" "$work"
    cp "$work/x/$2" "$images/$3"
    rm -rf "$work"
}
# What the kernel wants before it can have its root on an IDE disk; the tests sort them by what each says it depends on.
modules="scsi_common scsi_mod t10-pi crc64 crc64-rocksoft crc-t10dif crct10dif_common crct10dif_generic libata ata_piix sd_mod crc16
    crc32c_generic mbcache jbd2 ext4"
fetch_linux() { # META-PACKAGE FLAVOUR: the kernel of the package that it stands for, and modules
    [ -s "$images/vmlinuz-$2" ] && [ -d "$images/modules-$2" ] && return
    local package version work module
    package=$(apt-cache depends "$1" 2>/dev/null | awk '/Depends: linux-image/ { print $2; exit }')
    if [ -z "$package" ]; then
        as_root dpkg --add-architecture i386
        as_root apt-get update -q || echo "apt-get update was not complete; going on with what there is" >&2
        package=$(apt-cache depends "$1" | awk '/Depends: linux-image/ { print $2; exit }')
    fi
    version=${package#linux-image-}
    version=${version%:i386}
    work=$(mktemp -d)
    unpack "$package" "$work"
    mkdir "$work/modules"
    for module in $modules; do # not every version has each as a file of its own
        find "$work/x" -name "$module.ko" -exec cp {} "$work/modules" \;
    done
    cp "$work/x/boot/vmlinuz-$version" "$images/vmlinuz-$2"
    rm -rf "$images/modules-$2"
    cp -r "$work/modules" "$images/modules-$2"
    rm -rf "$work"
}
fetch gnumach-image-1.8-486:i386 boot/gnumach-1.8-486.gz gnumach.gz
fetch memtest86+ boot/memtest86+ia32.bin memtest86+ia32.bin
fetch busybox-static:i386 bin/busybox busybox-i386
fetch isolinux usr/lib/ISOLINUX/isolinux.bin isolinux.bin
for module in ldlinux libutil libcom32; do
    fetch syslinux-common usr/lib/syslinux/modules/bios/$module.c32 $module.c32
done
fetch syslinux-common usr/lib/syslinux/memdisk memdisk
fetch ipxe boot/ipxe.lkrn ipxe.lkrn
fetch_linux linux-image-686:i386 686
fetch_linux linux-image-686-pae:i386 686-pae
[ -s "$images/debian.ext4" ] || as_root tests/debian-disk.sh "$images/debian.ext4"

export PAGEWALK_IMAGES="$images" PAGEWALK_FUZZ="$fuzz" PAGEWALK_BOOTS="$boots"
cargo build --release --locked
cargo test --workspace --exclude pagewalk-tests --exclude pagewalk-silicon --locked
# against the processor of this host; what is printed tells the seeds
cargo test --locked -p pagewalk-silicon -- --nocapture
# whole machines, at full speed but with every check of arithmetic on
cargo test --profile checked --locked -p pagewalk-tests
# bugs planted on purpose, one at a time: the suites must find each
cargo test --profile checked --locked -p pagewalk-tests --features planted-bugs --test planted
if [ "$bench" = yes ]; then
    tests/bench.sh
fi
