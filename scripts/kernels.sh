#!/bin/sh
# Fetches the distribution's cloud kernels that the module is tested on, with their headers, and unpacks them into a
# directory of their own: nothing is installed, no boot loader and no initial RAM disk is touched. Once they are there,
# nothing is downloaded any more. `kernels.sh --update` fetches what the distribution has newer.
#
#   /var/cache/ub/kernels/6.1/vmlinuz, release, build/    (UB_KERNELS names another directory)
set -eu

dir=${UB_KERNELS:-/var/cache/ub/kernels}
update=
[ "${1-}" != --update ] || update=1

# series:package with the newest image:package with the newest headers
series='
6.1:linux-image-cloud-amd64:linux-headers-cloud-amd64
6.12:linux-image-6.12-cloud-amd64:linux-headers-6.12-cloud-amd64
'

missing=
for s in $series; do
	[ -z "$update" ] && [ -e "$dir/${s%%:*}/release" ] || missing="$missing $s"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
	echo "kernels: no apt-get here: the kernels for virtual machines come from Debian's archive" >&2
	exit 1
fi

# newest PACKAGE prints the package that a package without content stands for.
newest() {
	apt-cache depends "$1" 2>/dev/null | sed -n 's/^ *Depends: \(linux-[a-z]*-[0-9].*\)$/\1/p' | head -n 1
}

fetch() {
	image=$(newest "$2")
	headers=$(newest "$3")
	[ -n "$image" ] && [ -n "$headers" ] || return 1
	release=${image#linux-image-}
	[ "$release" = "${headers#linux-headers-}" ] || return 1
	[ "$(cat "$dir/$1/release" 2>/dev/null)" != "$release" ] || return 0
	common=$(apt-cache depends "$headers" | sed -n 's/^ *Depends: \(linux-headers-.*-common\)$/\1/p' | head -n 1)
	kbuild=$(apt-cache depends "$headers" | sed -n 's/^ *Depends: \(linux-kbuild-.*\)$/\1/p' | head -n 1)
	echo "kernels: fetching $release" >&2
	rm -rf "$dir/$1.new"
	mkdir -p "$dir/$1.new/debs"
	(cd "$dir/$1.new/debs" && apt-get download -q -o APT::Sandbox::User=root "$image" "$headers" "$common" "$kbuild" >log 2>&1) || {
		tail -n 5 "$dir/$1.new/debs/log" >"$dir/$1.log"
		return 1
	}
	tree=$dir/$1.new
	for deb in "$tree"/debs/*.deb; do
		case $deb in
		*/linux-image-*)
			dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tree" --strip-components=2 "./boot/vmlinuz-$release" "./boot/config-$release"
			;;
		*)
			dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tree" --exclude=./usr/share ./usr
			;;
		esac
	done
	mv "$tree/vmlinuz-$release" "$tree/vmlinuz"
	mv "$tree/config-$release" "$tree/config"
	rm -rf "$tree/debs"
	ln -s "usr/src/linux-headers-$release" "$tree/build"
	# The headers name their other half by its path when installed. Type information for modules needs pahole, and
	# an image that is not stripped: the module does without.
	sed -i "s|/usr/src/|$dir/$1/usr/src/|" "$tree/build/Makefile"
	sed -i '/^CONFIG_DEBUG_INFO_BTF_MODULES=/d' "$tree/build/include/config/auto.conf" "$tree/build/.config"
	echo "$release" >"$tree/release"
	rm -rf "${dir:?}/$1"
	mv "$tree" "$dir/$1"
}

for s in $missing; do
	name=${s%%:*}
	packages=${s#*:}
	if ! fetch "$name" "${packages%%:*}" "${packages#*:}"; then
		# The package lists may be absent or old.
		apt-get update -q >/dev/null 2>&1 || :
		if ! fetch "$name" "${packages%%:*}" "${packages#*:}"; then
			[ ! -s "$dir/$name.log" ] || cat "$dir/$name.log" >&2
			rm -rf "$dir/$name.new" "$dir/$name.log"
			echo "kernels: Debian's kernel $name could not be fetched; is the archive reachable?" >&2
			exit 1
		fi
	fi
	rm -f "$dir/$name.log"
done
