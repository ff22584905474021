#!/bin/sh
# Draws icon-192.png and icon-512.png from icon.svg with Chromium. Run it here after changing the drawing.
set -eu
cd "$(dirname "$0")"
page=$(mktemp --suffix=.html)
trap 'rm -f "$page"' EXIT
printf '<style>*{margin:0}svg{display:block;width:100vw;height:100vh}</style>%s' "$(cat icon.svg)" > "$page"
for size in 192 512; do
  "${KAIROS_TEST_CHROMIUM:-chromium}" --headless --no-sandbox --disable-gpu --hide-scrollbars \
    --window-size=$size,$size --screenshot="$PWD/icon-$size.png" "file://$page"
done
