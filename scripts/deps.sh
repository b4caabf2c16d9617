#!/bin/sh
# Installs the Debian packages that building, testing and measuring need, where they are missing. It is the only place that
# names them. Quick when nothing is missing: one file per package is looked at, no package tool runs.
set -eu

# package:file
#   gcc, libc6-dev          the C programs of tests and benchmarks
#   libzydis-dev            a second opinion on every instruction, in tests of decoders
#   redis-server, nginx     real code to decode and translate; servers to measure
#   redis-tools, wrk        load for them
#   qemu-system-x86, busybox-static, libelf1, make
#                           virtual machines for the kernel module, and what building it needs; scripts/kernels.sh
#                           fetches the kernels
#   dkms, systemd           how the module is installed, and attached to services
#   the others              what the end-to-end tests run in sandboxes
wanted='
gcc:/usr/bin/gcc
libc6-dev:/usr/include/stdio.h
libzydis-dev:/usr/include/Zydis/Zydis.h
make:/usr/bin/make
libelf1:/usr/lib/x86_64-linux-gnu/libelf.so.1
dkms:/usr/sbin/dkms
systemd:/usr/bin/systemd-analyze
qemu-system-x86:/usr/bin/qemu-system-x86_64
busybox-static:/bin/busybox
redis-server:/usr/bin/redis-server
redis-tools:/usr/bin/redis-benchmark
wrk:/usr/bin/wrk
nginx:/usr/sbin/nginx
sqlite3:/usr/bin/sqlite3
python3-minimal:/usr/bin/python3
perl-base:/usr/bin/perl
luajit:/usr/bin/luajit
mawk:/usr/bin/mawk
tar:/bin/tar
gzip:/bin/gzip
sed:/bin/sed
coreutils:/usr/bin/sha256sum
'

missing=
for w in $wanted; do
	[ -e "${w#*:}" ] || missing="$missing ${w%%:*}"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "deps: missing:$missing. This is not Debian: install what corresponds to them, then try again" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "deps: missing:$missing. Run as root: apt-get install -y$missing" >&2
	exit 1
fi
echo "deps: installing$missing" >&2

# The servers among them are wanted as programs, not as daemons: while a policy says 101, Debian starts none.
policy=/usr/sbin/policy-rc.d
restore() {
	rm -f "$policy"
	[ ! -e "$policy.ub-saved" ] || mv "$policy.ub-saved" "$policy"
}
trap restore EXIT
trap 'exit 1' INT TERM HUP
[ ! -e "$policy" ] || mv "$policy" "$policy.ub-saved"
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
install() {
	# shellcheck disable=SC2086 # a list of words
	apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 $missing >"$log" 2>&1
}
log=$(mktemp)
trap 'restore; rm -f "$log"' EXIT
# The package lists may be absent or too old to find files by.
if ! install && ! { apt-get update -q >"$log" 2>&1 && install; }; then
	tail -n 20 "$log" >&2
	echo "deps: apt-get failed; fix what it says above, then try again" >&2
	exit 1
fi
