# What busybox's applets say, run by its shell; every line of this is the same natively.
set -u
cd /tmp
seq 1 2000 | awk '{ s += $1; q += $1 * $1; r += 1 / $1 } END { printf "%d %d %.15g\n", s, q, r }'
awk 'BEGIN { for (i = 0; i < 20; i++) printf "%.6f %.10e %g\n", i / 7, 10 / (i + 3) * 1e-9, i * i * 1e20; print length("word"), substr("abcdef", 2, 3), toupper("x") }'
seq 1 5000 | sort -r | head -n 3
seq 1 300 | sort -n -k1,1 -r | tail -n 2
for i in 5 3 9 1 7; do echo "$i x$i"; done | sort | sed 's/x\([0-9]\)/<\1>/' | tr '<>' '[]' | cut -d' ' -f2 | paste -s -d, -
dd if=/dev/zero bs=4096 count=64 2>/dev/null | tr '\0' 'a' > block
md5sum block; sha1sum block; sha256sum block; sha512sum block; crc32 block
gzip -c block > block.gz; gunzip -c block.gz | cmp - block && echo "gzip: the same"
bzip2 -c block > block.bz2; bunzip2 -c block.bz2 | cmp - block && echo "bzip2: the same"
mkdir -p tree/a/b tree/c; echo one > tree/a/one; echo two > tree/a/b/two; echo three > tree/c/three; ln -s a/one tree/link
tar cf tree.tar tree; mkdir -p copy; tar xf tree.tar -C copy; find copy -type f | sort | xargs cat
cat copy/tree/link; readlink copy/tree/link
echo "123456789 * 987654321 + 7" | bc
echo "2 20 ^ p" | dc
expr 17 \* 3 + 4; echo $((0x7fffffff + 1)) $((1 << 40)) $((-7 / 2)) $((-7 % 2))
printf '%5d|%-5s|%x|%o|%e\n' 42 ab 255 8 3.14159
printf 'one\ntwo\nthree\n' | grep -n 't' ; printf 'a b c\n' | wc
echo hello | od -c; echo hello | hexdump -C; echo hello | xxd; echo hello | base64; echo aGVsbG8K | base64 -d; echo hello | uuencode x
printf 'b\nb\na\n' | uniq -c; printf '1\n2\n3\n' | tac; echo abc | rev; printf 'a\tb\n' | expand; seq 3 | nl
printf '1 a\n2 b\n' > left; printf '1 x\n2 y\n' > right; diff left right; join left right 2>/dev/null
date -u -d @1234567890 '+%Y-%m-%d %H:%M:%S'
cal 2 2009
factor 1234567 600851475143
f() { local n=$1; if [ "$n" -le 1 ]; then echo 1; else echo $((n * $(f $((n - 1))))); fi; }; f 10
case abcdef in a*f) echo matches ;; esac; x=path/to/file.txt; echo "${x##*/} ${x%.*} ${#x}"
trap 'echo trapped' USR1; kill -USR1 $$; (exit 3); echo "status $?"; sleep 0.1 & wait $!; echo "waited $?"
false | true; echo "$?"; sh -c 'kill -SEGV $$' 2>/dev/null; echo "status $?"
rm -rf block block.gz block.bz2 tree tree.tar copy left right
echo done >&2
exit 9
