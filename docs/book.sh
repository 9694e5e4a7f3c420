#!/bin/sh
# The documents as a book: docs/book.sh OUT
# The pages of this folder link to pages and files beside it, which a book cannot reach. Therefore the book is built
# from a copy in which those files lie beside the pages. Then each link and anchor of the built pages is checked.
set -eu
cd "$(dirname "$0")/.."
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=target/book-source
rm -rf "$work" "$out"
mkdir -p "$work/src"
cp docs/book.toml "$work/"
for page in *.md docs/*.md; do
    # The book's list of all pages is its table of contents.
    sed -e 's#](\.\./#](#g' -e 's#](docs/#](#g' -e 's#](SUMMARY\.md)#](toc.html)#g' "$page" > "$work/src/$(basename "$page")"
done
cp -r docs/img docs/plots config LICENSE "$work/src/"
mdbook build "$work" --dest-dir "$out"

cd "$out"
# Lines of `id PAGE ANCHOR` and `link PAGE TARGET`. The print page repeats all others; 404.html has absolute paths.
find . -name '*.html' ! -name print.html ! -name 404.html ! -name toc.html | sed 's#^\./##' | sort > pages
while read -r page; do
    grep -oE '(id|href|src)="[^"]*"' "$page" | sed -E \
        -e "s#^id=\"(.*)\"#id $page \1#" -e "s#^(href|src)=\"(.*)\"#link $page \2#"
done < pages | sort -u > found
awk '
    $1 == "id" { known[$2 "#" $3] = 1 }
    $1 == "link" && $3 !~ /^([a-z]+:|\/\/)/ {
        split($3, parts, "#")
        file = parts[1] == "" ? $2 : parts[1]
        sub(/^\.\//, "", file)
        print (parts[2] == "" ? "-" : file "#" parts[2]), file, $2, $3
    }
    END { for (anchor in known) print "known", anchor }
' found | sort -u > links
broken=0
while read -r anchor file page link; do
    case $anchor in
        known) continue ;;
        -) [ -e "$file" ] && continue ;;
        *) [ -e "$file" ] && grep -qxF "known $anchor" links && continue ;;
    esac
    echo "$page: broken link $link" >&2
    broken=$((broken + 1))
done < links
count=$(grep -cv '^known' links)
pages=$(grep -c . pages)
rm pages found links
[ "$broken" = 0 ] && [ "$count" -gt 500 ] || { echo "FAILED: $broken of $count links are broken" >&2; exit 1; }
echo "OK: $pages pages, $count links; read $out/index.html"
