#!/usr/bin/env bash
# Writes the corpora of `fishersft reproduce frozen-features --texts FOLDER`, a file LABEL.txt for each label with texts
# between blank lines: FOLDER/fortunes has Debian's fortunes by topic, without the offensive ones; FOLDER/wordnet has
# WordNet 3.0's glosses of nouns, cut at the first quoted example, by lexicographer file. Needs apt, and no root.
#   benchmarks/labelled.sh FOLDER
set -euo pipefail
mkdir -p "$1/fortunes" "$1/wordnet"
folder=$(realpath "$1") packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
cd "$packages"
apt-get download -qq fortunes fortunes-min wordnet-base
for package in *.deb; do dpkg-deb -x "$package" .; done
# Files named .dat are indices, those named .u8 links. Blank lines within a fortune would end it.
find usr/share/games/fortunes -maxdepth 1 -type f ! -name '*.*' | while read -r topic; do
    sed '/^[[:space:]]*$/d; s/^%.*$//' "$topic" > "$folder/fortunes/$(basename "$topic").txt"
done
# A line is "OFFSET FILE n WORDS .. | GLOSS"; FILE counts the lexicographer files, of which those of nouns are 03 to 28.
awk -v folder="$folder/wordnet" '
    BEGIN {
        split("tops act animal artifact attribute body cognition communication event feeling food group location " \
            "motive object person phenomenon plant possession process quantity relation shape state substance time", names)
    }
    /^[0-9]/ {
        gloss = substr($0, index($0, "|") + 1)
        sub(/; *".*/, "", gloss)
        gsub(/^ +| +$/, "", gloss)
        if (gloss != "") print gloss "\n" > (folder "/" names[$2 - 2] ".txt")
    }' usr/share/wordnet/data.noun
