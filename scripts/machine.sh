# shellcheck shell=bash
# What the scripts ask of the machine: Debian packages, PostgreSQL's programs, an unprivileged user, and commands that
# a signal can stop. To be sourced.

die() {
    echo "$0: $*" >&2
    exit 1
}

# rustup adds its directory to the profile, which an older shell has not read.
PATH="$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"

# require_cargo COMPONENT...: requires cargo, and components that rustup's minimal profile lacks.
require_cargo() {
    command -v cargo >/dev/null || die "Rust is missing: install it from https://rustup.rs, then try again"
    local component
    for component in "$@"; do
        cargo "$component" --version >/dev/null 2>&1 || rustup component add "${component/fmt/rustfmt}" ||
            die "cargo $component is missing: install it with your Rust"
    done
}

# The directory of PostgreSQL's programs: WALKEEP_PG_BINDIR, else the newest of Debian's (not on PATH), else PATH.
postgresql_bin() {
    local initdb
    if [[ -n ${WALKEEP_PG_BINDIR:-} ]]; then
        initdb=$WALKEEP_PG_BINDIR/initdb
    else
        initdb=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort --version-sort | tail -n 1)
        [[ -x $initdb ]] || initdb=$(command -v initdb) || return 1
    fi
    [[ -x $initdb ]] && dirname "$(readlink -f "$initdb")"
}

# install_packages NAME...: with apt, as root or by sudo when it asks for no password.
install_packages() {
    (($# > 0)) || return 0
    local sudo=()
    if ((EUID != 0)); then
        sudo -n true 2>/dev/null || die "missing here; install first: sudo apt-get install $*"
        sudo=(sudo -n)
    fi
    command -v apt-get >/dev/null || die "missing here, and there is no apt-get to install it with: $*"
    echo "Installing with apt: $*"
    (
        # Debian's postgresql creates and starts a cluster "main" on installation, which is not needed.
        directory=/etc/postgresql-common/createcluster.d
        drop_in=$directory/walkeep-no-main-cluster.conf
        trap '"${sudo[@]}" rm -f "$drop_in"; "${sudo[@]}" rmdir --ignore-fail-on-non-empty -p "$directory"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' HUP TERM
        "${sudo[@]}" mkdir -p "$directory"
        "${sudo[@]}" tee "$drop_in" >/dev/null <<<'create_main_cluster = false'
        # Stale lists of packages are good enough for a machine without access to the mirror.
        "${sudo[@]}" apt-get update -q=2 || true
        # A machine often upgrades itself just after its start.
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -q=2 \
            --no-install-recommends "$@" >/dev/null
    ) || die "apt could not install: $*"
}

# unprivileged: prefix of a command that must not run as root, such as PostgreSQL's server.
unprivileged=()
drop_privileges() {
    unprivileged_user=$(id -un)
    ((EUID == 0)) || return 0
    unprivileged_user=nobody
    ! id postgres >/dev/null 2>&1 || unprivileged_user=postgres
    # shellcheck disable=SC2034 # for the script that sources this
    unprivileged=(setpriv --reuid "$unprivileged_user" --regid "$(id -g "$unprivileged_user")" --init-groups)
}

# Starts a command in a process group of its own, where the terminal's ^C does not reach it and stop_jobs does.
start() {
    set -m
    "$@" </dev/null &
    set +m
}

# Calls a command that may take long. Bash would delay a trap until a command in the foreground has ended.
run() {
    start "$@"
    wait "$!"
}

stop_jobs() {
    local job
    for job in $(jobs -pr); do
        kill "-$1" -- "-$job" 2>/dev/null || true
    done
}

# Makes walkeep's directory of the cache, and prints its path.
cache_directory() {
    local cache=${WALKEEP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/walkeep}
    mkdir -p "$cache"
    (cd "$cache" && pwd)
}

# hold_lock NAME: waits for other runs that install NAME, and lets none begin while this script runs. Descriptor 9 is the
# lock. Removes what killed runs have left: only the holder of the lock uses such a directory.
hold_lock() {
    command -v flock >/dev/null || install_packages util-linux >&2
    exec 9>"$cache/$1.lock"
    flock --nonblock 9 || {
        echo "Waiting for another run of $0" >&2
        flock 9
    }
    rm -rf "$cache/.$1".*
}
