#!/usr/bin/env bash
# Installs the system packages that the project needs on Debian 12, Debian 13 and Ubuntu 24.04.
#
#   vagrant/provision.sh          say what is missing, install it (root, or sudo)
#   vagrant/provision.sh --check  print what is missing and change nothing; status 0: nothing, 1: something
set -euo pipefail

# One list serves all three releases: where libvirt's drivers are packages of their own (Debian 13),
# libvirt-daemon-system depends on those for QEMU, storage, networks, network filters and node devices.
packages=(
    # libvirt, QEMU, and what libvirt's networks are made of
    libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils dnsmasq-base iproute2 iptables nftables
    # the Python environment; libvirt's binding is built against the libvirt of the system
    python3 python3-venv python3-dev libvirt-dev pkg-config gcc
    # building images
    mmdebstrap busybox-static syslinux syslinux-common extlinux mtools dosfstools e2fsprogs fdisk cpio lz4 zstd
    # make, tests, benchmarks
    make git openssh-client openssl procps virtinst
)

# The same by program, for a distribution whose package names we do not know.
programs=(
    libvirtd virtlogd virsh qemu-system-x86_64 qemu-img dnsmasq ip iptables nft
    python3 pkg-config gcc
    mmdebstrap busybox syslinux extlinux mcopy mkfs.vfat mkfs.ext4 sfdisk cpio lz4 zstd
    make git ssh openssl pgrep virt-install
)

# A user's PATH often lacks the administration programs.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

fail() {
    printf 'provision: %s\n' "$*" >&2
    exit 2
}

apt_based() {
    [ -r /etc/os-release ] || return 1
    # shellcheck source=/dev/null
    (. /etc/os-release && [[ " ${ID:-} ${ID_LIKE:-} " =~ \ (debian|ubuntu)\  ]])
}

missing_packages() {
    local installed
    installed=$(dpkg-query --show --showformat='${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true)
    local package
    for package in "${packages[@]}"; do
        grep -qx "$package installed" <<<"$installed" || printf '%s\n' "$package"
    done
}

missing_programs() {
    local program
    for program in "${programs[@]}"; do
        command -v "$program" >/dev/null || printf '%s\n' "$program"
    done
}

missing() {
    if apt_based; then missing_packages; else missing_programs; fi
}

case ${1:-} in
    --check)
        found=$(missing)
        [ -z "$found" ] && exit 0
        printf '%s\n' "$found"
        exit 1
        ;;
    '') ;;
    *) fail "unknown argument $1 (there is only --check)" ;;
esac

mapfile -t wanted < <(missing)
if [ ${#wanted[@]} -eq 0 ]; then
    echo 'provision: everything is installed'
    exit 0
fi
apt_based || fail "neither Debian nor Ubuntu here: install these programs with this system's own tools: ${wanted[*]}"

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "root is needed to install: ${wanted[*]}"
    as_root=(sudo)
fi
install=(apt-get install --yes --no-install-recommends "${wanted[@]}")
printf 'provision: running as root: apt-get update\n'
printf 'provision: running as root: %s\n' "${install[*]}"

# env: sudo does not keep variables. No input: nobody answers in CI, and apt must not eat the caller's.
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update --quiet=2 </dev/null
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l "${install[@]}" </dev/null

mapfile -t left < <(missing)
[ ${#left[@]} -eq 0 ] || fail "still missing after the installation: ${left[*]}"
echo 'provision: done'
