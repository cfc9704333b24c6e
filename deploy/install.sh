#!/usr/bin/env bash
# Turns a Debian 12 machine into a heiCHAT server, or brings one up to date. Run it as root from an unpacked copy of the project:
#
#   deploy/install.sh --name matrix-im.example.org --admin ab123 \
#       --ldap-uri ldaps://ldap.example.org --ldap-base ou=people,dc=example,dc=org \
#       --certificate /root/chain.pem --key /root/key.pem
#
# It asks nothing. What is there already stays: a second run changes nothing, and says so; your heichat.ini is never touched.
# It tells in German where the locale is German, otherwise in English. --help explains the options.
set -euo pipefail

SOURCE=$(cd "$(dirname "$0")/.." && pwd)
CONFIG=/etc/heichat/heichat.ini
TLS=/etc/heichat/tls
DATA=/var/lib/heichat
BACKUPS=/var/backups/heichat
HOME_DIR=/opt/heichat
VENV=$HOME_DIR/venv # a link to one of $HOME_DIR/releases
UNITS="heichat.service heichat-backup.service heichat-backup.timer heichat-doctor.service heichat-doctor.timer"
CHANGES=0

# -- speaking ----------------------------------------------------------------------------------------------------

case "${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}" in de | de[_.@]*) GERMAN=1 ;; *) GERMAN= ;; esac

t() { if [ "$GERMAN" ]; then printf '%s' "$2"; else printf '%s' "$1"; fi; } # ENGLISH GERMAN
say() { t "$@" && echo; }
step() { printf '\n== ' && say "$@"; }
changed() { CHANGES=$((CHANGES + 1)) && printf '  + ' && say "$@"; }
warn() { printf '\n  !! ' && say "$@"; } >&2
die() { printf '%s: ' "${0##*/}" && say "$@" && exit 1; } >&2

usage() { cat "$SOURCE/deploy/help.$(t en de).txt"; }

# -- options -----------------------------------------------------------------------------------------------------

NAME='' URL='' ADMINS='' TERMS='' EMAIL='' LDAP_URIS='' LDAP_BASE='' LDAP_FILTER='' LDAP_DN='' LDAP_PASSWORD='' LDAP_CA=''
CERTIFICATE='' KEY='' PORT=443 PROXY='' EXTERNAL='' REFRESH='' START=1

while [ $# -gt 0 ]; do
    case $1 in
    --behind-proxy) PROXY=1 ;;
    --refresh) REFRESH=1 ;;
    --no-start) START='' ;;
    -h | --help) usage && exit 0 ;;
    --name | --public-url | --admin | --terms | --support-email | --ldap-* | --certificate | --key | --port | --external-address)
        [ $# -gt 1 ] || die "$1 needs a value" "$1 braucht einen Wert"
        case $1 in
        --name) NAME=$2 ;;
        --public-url) URL=${2%/} ;;
        --admin) ADMINS+="${ADMINS:+, }$2" ;;
        --terms) TERMS=$2 ;;
        --support-email) EMAIL=$2 ;;
        --ldap-uri) LDAP_URIS+="${LDAP_URIS:+$'\n'}$2" ;;
        --ldap-base) LDAP_BASE=$2 ;;
        --ldap-filter) LDAP_FILTER=$2 ;;
        --ldap-bind-dn) LDAP_DN=$2 ;;
        --ldap-password-file) LDAP_PASSWORD=$2 ;;
        --ldap-ca) LDAP_CA=$2 ;;
        --certificate) CERTIFICATE=$2 ;;
        --key) KEY=$2 ;;
        --port) PORT=$2 ;;
        --external-address) EXTERNAL=$2 ;;
        *) die "unknown option $1 (see --help)" "unbekannte Option $1 (siehe --help)" ;;
        esac
        shift
        ;;
    *) die "unknown option $1 (see --help)" "unbekannte Option $1 (siehe --help)" ;;
    esac
    shift
done

check_options() {
    local file
    [ "$(id -u)" = 0 ] || die "must be run as root" "muss als root laufen"
    [ -f "$SOURCE/setup.cfg" ] || die "run it from an unpacked copy of the project" "bitte aus einer entpackten Kopie des Projekts aufrufen"
    command -v apt-get >/dev/null || die "this is made for Debian 12" "das ist für Debian 12 gemacht"
    [ "${CERTIFICATE:+1}" = "${KEY:+1}" ] || die "--certificate and --key belong together" "--certificate und --key gehören zusammen"
    [ -z "$LDAP_URIS" ] || [ "$LDAP_BASE" ] || die "--ldap-base is missing" "--ldap-base fehlt"
    [ "${LDAP_DN:+1}" = "${LDAP_PASSWORD:+1}" ] ||
        die "--ldap-bind-dn and --ldap-password-file belong together" "--ldap-bind-dn und --ldap-password-file gehören zusammen"
    [[ $PORT =~ ^[0-9]+$ ]] || die "--port must be a number" "--port muss eine Zahl sein"
    for file in "$CERTIFICATE" "$KEY" "$LDAP_PASSWORD" "$LDAP_CA" ${TERMS:+"$TERMS/de.md" "$TERMS/en.md"}; do
        [ -z "$file" ] || [ -r "$file" ] || die "$file can't be read" "$file ist nicht lesbar"
    done
    [[ $NAME =~ ^[A-Za-z0-9.-]*$ ]] || die "--name must be a host name, not '$NAME'" "--name muss ein Rechnername sein, nicht '$NAME'"
    if [ -f "$CONFIG" ]; then take_configured; fi
    [ "$NAME" ] || NAME=$(hostname -f 2>/dev/null || cat /etc/hostname)
    [ "$URL" ] || URL=https://$NAME$([ "$PORT" = 443 ] || echo ":$PORT")
    [ -z "$PROXY" ] || [ -z "$CERTIFICATE" ] ||
        die "with --behind-proxy the web server has the certificate" "mit --behind-proxy hat der Webserver das Zertifikat"
}

take_configured() { # what heichat.ini says goes: it is never changed here
    local name listen
    name=$(configured server name)
    [ -z "$NAME" ] || [ "${NAME,,}" = "${name,,}" ] ||
        die "this is the server $name (see $CONFIG), and the name can't be changed" \
            "das ist der Server $name (siehe $CONFIG), und der Name lässt sich nicht ändern"
    NAME=$name
    URL=$(configured server public_url)
    listen=$(configured server listen)
    if [[ $listen =~ ssl:([0-9]+) ]]; then PORT=${BASH_REMATCH[1]} PROXY=''; else PROXY=1; fi
}

configured() { # SECTION KEY: what heichat.ini says
    awk -v section="[$1]" -v key="$2" '
        /^\[/ { here = ($0 == section); mine = 0 }
        here && /^[^ \t#]/ { mine = ($1 == key && $2 == "="); sub(/^[^=]*= */, "") }
        here && mine && !/^ *#/ { print }' "$CONFIG"
}

# -- small steps -------------------------------------------------------------------------------------------------

put() { # MODE GROUP TARGET, content on standard input: writes only what differs, and at once or not at all
    local new
    new=$(mktemp)
    cat >"$new"
    if cmp -s "$new" "$3" && [ "$(stat -c '%a %U:%G' "$3")" = "$1 root:$2" ]; then
        rm "$new"
        return 1
    fi
    if ! { install -m "$1" -o root -g "$2" "$new" "$3.new" && mv "$3.new" "$3"; }; then
        die "$3 can't be written" "$3 lässt sich nicht schreiben"
    fi
    rm "$new"
    changed "$3" "$3"
}

folder() { # MODE OWNER:GROUP PATH
    if [ -d "$3" ] && [ "$(stat -c '%a %U:%G' "$3")" = "$1 $2" ]; then return; fi
    install -d -m "$1" -o "${2%:*}" -g "${2#*:}" "$3"
    changed "folder $3" "Ordner $3"
}

as_heichat() { (cd "$DATA" && runuser -u heichat -- env HOME="$DATA" "$@"); }

booted() { [ -d /run/systemd/system ]; }

have() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; } # PACKAGE

install_packages() {
    local package missing=()
    for package in python3 python3-venv ca-certificates openssl; do
        have "$package" || missing+=("$package")
    done
    # Tokens, certificates and logs need the right time.
    have systemd-timesyncd || have chrony || have ntpsec || missing+=(systemd-timesyncd)
    [ ${#missing[@]} -gt 0 ] || return 0
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q -o Acquire::Retries=3 >/dev/null
    apt-get install -q -y --no-install-recommends -o Acquire::Retries=3 "${missing[@]}" >/dev/null
    changed "packages ${missing[*]}" "Pakete ${missing[*]}"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed, as Debian 12 has it" "nötig ist Python 3.11 oder neuer, wie es Debian 12 hat"
}

make_user() {
    if ! getent passwd heichat >/dev/null; then
        useradd --system --user-group --home-dir "$DATA" --no-create-home --shell /usr/sbin/nologin heichat
        changed "user heichat" "Benutzer heichat"
    fi
    folder 755 root:root "$HOME_DIR"
    folder 755 root:root "$HOME_DIR/releases"
    folder 750 root:heichat /etc/heichat
    folder 750 root:heichat "$TLS"
    folder 700 heichat:heichat "$DATA"
    folder 700 heichat:heichat "$BACKUPS"
}

# -- the program -------------------------------------------------------------------------------------------------

release_name() { # the version, and a hash of the program's files
    local version hash
    version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$SOURCE/heichat_appliance/__init__.py")
    hash=$(cd "$SOURCE" && find heichat_appliance twisted setup.cfg pyproject.toml -type f ! -name '*.pyc' ! -name dropin.cache -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12)
    echo "$version-$hash${REFRESH:+-$(date -u +%Y%m%d%H%M%S)}"
}

build_release() { # PATH: a virtual environment with the program; it counts only when it is complete
    local copy
    copy=$(mktemp -d)
    rm -rf "$1"
    python3 -m venv "$1"
    (cd "$SOURCE" && cp -r heichat_appliance twisted setup.cfg pyproject.toml README.md LICENSE "$copy")
    if ! "$1/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir "$copy"; then
        rm -rf "$copy"
        die "the program's libraries could not be installed (see above; a proxy is set by https_proxy)" \
            "die Bibliotheken ließen sich nicht installieren (siehe oben; einen Proxy nennt https_proxy)"
    fi
    rm -rf "$copy"
    # Twisted keeps a list of plugins in files beside them, which the daemon may not write.
    "$1/bin/twistd" heichat --help >/dev/null ||
        die "this state of the project does not work (see above)" "dieser Stand des Projekts funktioniert nicht (siehe oben)"
    "$1/bin/heichat-admin" example-config >"$1/config.example.ini"
    touch "$1/.complete"
}

install_program() {
    local release old new
    release=$(release_name)
    new=$HOME_DIR/releases/$release
    old=$(readlink "$VENV" 2>/dev/null || true)
    # What --refresh made counts as this state of the project too.
    if [ -z "$REFRESH" ] && [[ $old == "$new" || $old == "$new"-* ]] && [ -e "$old/.complete" ]; then return; fi
    if [ ! -e "$new/.complete" ]; then build_release "$new"; fi
    if [ -f "$CONFIG" ]; then check_config "$new"; fi
    if [ "$old" ]; then back_up_before_upgrade "$old"; fi
    ln -sfn "$new" "$VENV.new" && mv -T "$VENV.new" "$VENV"
    changed "program $release in $VENV" "Programm $release in $VENV"
    PREVIOUS=$old
    RESTART=1
    # The one before stays, to go back to.
    find "$HOME_DIR/releases" -mindepth 1 -maxdepth 1 ! -path "$new" ! -path "${old:-$new}" -exec rm -rf {} +
    ln -sfn "$VENV/bin/heichat-admin" /usr/local/bin/heichat-admin
}

back_up_before_upgrade() { # RELEASE that has been in use
    [ -f "$DATA/heichat.db" ] || return 0
    BACKUP=$(as_heichat "$1/bin/heichat-admin" --config "$CONFIG" backup "$BACKUPS" | sed -n 1p) ||
        die "the backup before the upgrade failed (see above); nothing has been changed" \
            "die Sicherung vor der Aktualisierung schlug fehl (siehe oben); es wurde nichts geändert"
    changed "backup $BACKUP" "Sicherung $BACKUP"
}

# -- configuration -----------------------------------------------------------------------------------------------

has_own_certificate() { # whether the files in $TLS are in use
    if [ -f "$CONFIG" ]; then grep -q "^[^#]*$TLS/chain.pem" "$CONFIG"; else [ -z "$PROXY" ]; fi
}

fit_each_other() { # $KEY and $CERTIFICATE
    local public
    public=$(openssl pkey -in "$KEY" -passin pass: -pubout 2>/dev/null) &&
        [ "$public" = "$(openssl x509 -in "$CERTIFICATE" -noout -pubkey 2>/dev/null)" ]
}

install_certificate() {
    local new=''
    if ! has_own_certificate; then return; fi
    if [ "$CERTIFICATE" ]; then
        fit_each_other || die "--key is not the key of --certificate (or has a passphrase)" \
            "--key ist nicht der Schlüssel zu --certificate (oder hat ein Passwort)"
        put 640 heichat "$TLS/key.pem" <"$KEY" && new=1
        put 640 heichat "$TLS/chain.pem" <"$CERTIFICATE" && new=1
        if [ "$new" ]; then RELOAD=1; fi
    elif [ ! -e "$TLS/key.pem" ]; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$NAME" \
            -addext "subjectAltName=DNS:$NAME" -keyout "$TLS/key.new" -out "$TLS/chain.new" 2>/dev/null
        put 640 heichat "$TLS/chain.pem" <"$TLS/chain.new"
        put 640 heichat "$TLS/key.pem" <"$TLS/key.new"
        rm "$TLS/key.new" "$TLS/chain.new"
    fi
}

is_self_signed() {
    has_own_certificate && [ "$(openssl x509 -in "$TLS/chain.pem" -noout -subject | cut -d= -f2-)" = \
        "$(openssl x509 -in "$TLS/chain.pem" -noout -issuer | cut -d= -f2-)" ]
}

listeners() { # all addresses, IPv4 and IPv6 where there is IPv6
    if [ "$PROXY" ]; then
        echo "tcp:8008:interface=127.0.0.1"
    else
        printf 'ssl:%s:privateKey=%s/key.pem:certKey=%s/chain.pem' "$PORT" "$TLS" "$TLS"
        if [ -s /proc/net/if_inet6 ]; then printf ':interface=\\:\\:'; fi
    fi
}

install_config() {
    local values language
    # Read at the start.
    if [ "$LDAP_PASSWORD" ] && put 640 heichat /etc/heichat/ldap-password <"$LDAP_PASSWORD"; then RESTART=1; fi
    if [ "$LDAP_CA" ] && put 644 heichat /etc/heichat/ldap-ca.pem <"$LDAP_CA"; then RESTART=1; fi
    if [ "$TERMS" ]; then
        folder 755 root:root /etc/heichat/terms
        for language in de en; do
            if put 644 root "/etc/heichat/terms/$language.md" <"$TERMS/$language.md"; then RESTART=1; fi
        done
    fi
    if [ -e "$CONFIG" ]; then
        say "  = $CONFIG stays as it is" "  = $CONFIG bleibt, wie es ist"
        return
    fi
    values=("server.name=$NAME" "server.public_url=$URL" "server.listen=$(listeners)" "server.data_dir=$DATA")
    if [ "$ADMINS" ]; then values+=("server.admins=$ADMINS"); fi
    if [ "$EMAIL" ]; then values+=("server.support_email=$EMAIL"); fi
    if [ "$LDAP_URIS" ]; then values+=("ldap_identity.uri=$LDAP_URIS" "ldap_identity.base=$LDAP_BASE"); fi
    # An unencrypted connection is fine where it doesn't leave this machine.
    if [ "$LDAP_URIS" ] && ! grep -qv '^ldap://\(127.0.0.1\|localhost\)\b' <<<"$LDAP_URIS"; then values+=("ldap_identity.start_tls=no"); fi
    if [ "$LDAP_FILTER" ]; then values+=("ldap_identity.filter=$LDAP_FILTER"); fi
    if [ "$LDAP_DN" ]; then
        values+=("ldap_identity.bind_dn=$LDAP_DN" "ldap_identity.bind_password_file=/etc/heichat/ldap-password")
    fi
    if [ "$LDAP_CA" ]; then values+=("ldap_identity.ca_file=/etc/heichat/ldap-ca.pem"); fi
    if [ "$TERMS" ]; then values+=("terms_consent.documents=/etc/heichat/terms"); fi
    if [ "$EXTERNAL" ]; then values+=("calls.external_address=$EXTERNAL"); fi
    if [ "$PROXY" ]; then
        values+=("server.trusted_proxies=127.0.0.1")
    else
        values+=("calls.listen=udp:3478"$'\n'"tcp:3478"$'\n'"tls:5349"
            "calls.certificate=$TLS/chain.pem" "calls.private_key=$TLS/key.pem")
    fi
    python3 "$SOURCE/deploy/fill_config.py" "$VENV/config.example.ini" "${values[@]}" >"$CONFIG.filled"
    put 640 heichat "$CONFIG" <"$CONFIG.filled"
    rm "$CONFIG.filled"
}

check_config() { # RELEASE
    "$1/bin/heichat-admin" --config "$CONFIG" check-config >/dev/null ||
        die "$CONFIG has errors (see above): mend them, and call this again" \
            "$CONFIG hat Fehler (siehe oben): bitte berichtigen und dies erneut aufrufen"
}

# -- systemd -----------------------------------------------------------------------------------------------------

install_units() {
    local unit new=''
    for unit in $UNITS; do
        if put 644 root "/etc/systemd/system/$unit" <"$SOURCE/deploy/$unit"; then new=1; fi
    done
    if [ -z "$new" ]; then return; fi
    RESTART=1
    command -v systemctl >/dev/null || return 0
    if booted; then systemctl daemon-reload; fi
    systemctl --quiet enable heichat.service heichat-backup.timer heichat-doctor.timer 2>/dev/null
}

install_kernel_settings() { # in a container they are the host's affair
    if put 644 root /etc/sysctl.d/60-heichat.conf <"$SOURCE/deploy/heichat-sysctl.conf"; then
        RESTART=1
        if booted; then sysctl -q -p /etc/sysctl.d/60-heichat.conf 2>/dev/null || true; fi
    fi
}

start() {
    if [ -z "$START" ]; then return; fi
    if ! booted; then
        warn "systemd does not run here, so nothing was started. After the next boot everything runs; until then:" \
            "systemd läuft hier nicht, also wurde nichts gestartet. Nach dem nächsten Start des Rechners läuft alles; bis dahin:"
        echo "     cd $DATA && setpriv --reuid=heichat --regid=heichat --init-groups --inh-caps=+net_bind_service \
       --ambient-caps=+net_bind_service $(sed -n 's/^ExecStart=//p' /etc/systemd/system/heichat.service)"
        return
    fi
    systemctl --quiet is-active heichat-backup.timer heichat-doctor.timer || systemctl start heichat-backup.timer heichat-doctor.timer
    if ! systemctl --quiet is-active heichat; then
        systemctl start heichat || not_started
        changed "heichat started" "heichat gestartet"
    elif [ "${RESTART:-}" ] || ! runs_this_release; then
        systemctl restart heichat || not_started
        changed "heichat restarted" "heichat neu gestartet"
    elif [ "${RELOAD:-}" ]; then
        systemctl reload heichat
        changed "heichat has read the new certificate" "heichat hat das neue Zertifikat gelesen"
    fi
    if [ -z "$(ls "$BACKUPS")" ]; then
        systemctl start heichat-backup ||
            warn "the first backup failed: journalctl -u heichat-backup" "die erste Sicherung schlug fehl: journalctl -u heichat-backup"
        changed "first backup in $BACKUPS" "erste Sicherung in $BACKUPS"
    fi
}

runs_this_release() { # and not the one before, because an upgrade was broken off
    local command
    command=$(tr '\0' ' ' <"/proc/$(systemctl show heichat -p MainPID --value)/cmdline")
    [[ $command == "$(readlink "$VENV")"/* ]]
}

not_started() {
    journalctl --no-pager -q -u heichat -n 20 >&2 || true
    way_back >&2
    die "heichat does not start (its log is above)" "heichat startet nicht (sein Protokoll steht oben)"
}

way_back() {
    if [ -z "${PREVIOUS:-}" ]; then return; fi
    step "The way back" "Der Weg zurück"
    echo "  systemctl stop heichat"
    echo "  ln -sfn $PREVIOUS $VENV"
    if [ "${BACKUP:-}" ]; then
        printf '  heichat-admin restore %s   # ' "$BACKUP"
        say "only if the old version refuses the database: what was written since is lost" \
            "nur falls die alte Version die Datenbank ablehnt: was seither geschrieben wurde, ist dann verloren"
    fi
    echo "  systemctl start heichat"
}

# -- the end -----------------------------------------------------------------------------------------------------

examine() {
    if [ -z "$START" ] || ! booted; then return; fi
    step "heichat-admin doctor" "heichat-admin doctor"
    local trust=()
    if is_self_signed; then trust=(--ca-file "$TLS/chain.pem"); fi
    "$VENV/bin/heichat-admin" --config "$CONFIG" doctor "${trust[@]}" ||
        warn "doctor found something: each line says what to do next" "doctor hat etwas gefunden: jede Zeile sagt, was zu tun ist"
}

what_is_left() {
    if is_self_signed; then
        warn "The certificate is self-signed: Element will refuse it, and browsers warn. Get a real one, and call" \
            "Das Zertifikat ist selbst unterschrieben: Element lehnt es ab, und Browser warnen. Bitte ein echtes besorgen und aufrufen:"
        echo "     deploy/install.sh --certificate chain.pem --key key.pem"
    fi
    if grep -q '^uri = ldaps://ldap1.example.org' "$CONFIG"; then
        warn "No directory is configured, so nobody can log in: see [ldap_identity] in $CONFIG, then systemctl restart heichat" \
            "Es ist kein Verzeichnis eingestellt, also kann sich niemand anmelden: siehe [ldap_identity] in $CONFIG, dann systemctl restart heichat"
    fi
    step "Ports that the firewall must let in" "Ports, die die Firewall hereinlassen muss"
    if [ "$PROXY" ]; then
        say "  443/tcp               the web server before it" "  443/tcp               der Webserver davor"
    else
        printf '  %-21s HTTPS\n' "$PORT/tcp"
        say "  5349/tcp              calls, over TLS" "  5349/tcp              Anrufe, über TLS"
    fi
    say "  3478/udp, 3478/tcp    calls" "  3478/udp, 3478/tcp    Anrufe"
    say "  49152-65535/udp       calls, the relay" "  49152-65535/udp       Anrufe, das Relais"
    echo
    if [ "$CHANGES" = 0 ]; then
        say "Nothing had to be changed." "Es war nichts zu ändern."
    else
        say "$CHANGES changes. The server's address: $URL" "$CHANGES Änderungen. Die Adresse des Servers: $URL"
    fi
    say "Configuration: $CONFIG; log: journalctl -u heichat; state: heichat-admin doctor" \
        "Konfiguration: $CONFIG; Protokoll: journalctl -u heichat; Zustand: heichat-admin doctor"
}

umask 022
check_options
exec 9>/run/heichat-install.lock
flock -n 9 || die "it runs already" "es läuft schon"
step "Packages, user, folders" "Pakete, Benutzer, Ordner"
install_packages
make_user
step "Program" "Programm"
install_program
step "Certificate and configuration" "Zertifikat und Konfiguration"
install_certificate
install_config
check_config "$VENV"
step "Services" "Dienste"
install_units
install_kernel_settings
start
examine
way_back
what_is_left
