#!/usr/bin/env bash
# Writes five more domains for `fishersft reproduce tiny-target --domains FOLDER`, a NAME.txt each with texts between
# blank lines: Debian's fortunes, FOLDOC, man pages (section 7) and King James Bible; Sherlock Holmes from a file of yours.
#   benchmarks/domains.sh FOLDER SHERLOCK.txt
set -euo pipefail
folder=$(realpath "$1") sherlock=$(realpath "$2")
mkdir -p "$folder/packages" && cd "$folder/packages"
apt-get download -qq fortunes fortunes-min dict-foldoc bible-kjv bible-kjv-text manpages
for package in *.deb; do dpkg-deb -x "$package" .; done
cd usr
# Two dozen files of fortunes; those named .dat are indices, those named .u8 links.
find share/games/fortunes -type f ! -name '*.*' -exec cat {} + | sed 's/^%$//' | cat -s > "$folder/fortunes.txt"
# Entries are indented under a heading each.
gzip -dc share/dictd/foldoc.dict.dz | iconv -c -t utf-8 > "$folder/foldoc.txt"
# Roff without its requests and font changes.
gzip -dc share/man/man7/*.7.gz | sed -E "s/^[.']\s*(PP|SH|SS|TP|IP).*//; /^[.']/d; s/\\\\f.|\\\\&//g; s/\\\\-/-/g" |
    cat -s > "$folder/man-pages.txt"
bin/bible -p lib -f gen1:1-rev22:21 | sed -E 's/^[A-Za-z0-9]+:[0-9]+ /\n/' > "$folder/bible.txt"
cp "$sherlock" "$folder/sherlock-holmes.txt"
rm -rf "$folder/packages"
