#!/usr/bin/env bash
# A directory with demo people for a trial machine: OpenLDAP's slapd, which listens on loopback alone. The passwords are public.
# Run it as root on Debian 12; a second run changes nothing. It prints the options for install.sh.
set -euo pipefail

PEOPLE=$(cd "$(dirname "$0")/.." && pwd)/heichat_appliance/plugins/demo_people.ldif
PASSWORD=/root/heichat-demo-directory.password
BASE=dc=demo

[ "$(id -u)" = 0 ] || { echo "must be run as root" >&2 && exit 1; }

if ! dpkg-query -W -f '${Status}' slapd 2>/dev/null | grep -q 'ok installed'; then
    export DEBIAN_FRONTEND=noninteractive
    admin=$(head -c 24 /dev/urandom | base64)
    apt-get update -q -o Acquire::Retries=3 >/dev/null
    printf 'slapd slapd/%s\n' \
        "domain string demo" "password1 password $admin" "password2 password $admin" "no_configuration boolean false" \
        >/tmp/heichat-slapd.$$
    # debconf itself comes with the first package that needs it.
    debconf-set-selections /tmp/heichat-slapd.$$
    rm /tmp/heichat-slapd.$$
    apt-get install -q -y --no-install-recommends -o Acquire::Retries=3 slapd >/dev/null
    echo "  + slapd"
fi

service() { # ACTION: where there is an init system; elsewhere the directory is started by whoever starts the rest
    if [ -d /run/systemd/system ]; then systemctl --quiet "$1" slapd; fi
}

if ! grep -q '^SLAPD_SERVICES=.*127.0.0.1' /etc/default/slapd; then
    sed -i 's|^SLAPD_SERVICES=.*|SLAPD_SERVICES="ldap://127.0.0.1:389/ ldapi:///"|' /etc/default/slapd
    service restart
    echo "  + slapd listens on 127.0.0.1 only"
fi

if ! slapcat -b "$BASE" 2>/dev/null | grep -q '^dn: uid=alice,'; then
    (umask 077 && head -c 18 /dev/urandom | base64 | tr -d '\n' >"$PASSWORD")
    service stop
    {
        printf 'dn: ou=people,%s\nobjectClass: organizationalUnit\nou: people\n\n' "$BASE"
        printf 'dn: cn=heichat,%s\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: heichat\nuserPassword: %s\n\n' \
            "$BASE" "$(slappasswd -s "$(cat "$PASSWORD")")"
        grep -v '^#' "$PEOPLE"
    } | slapadd -b "$BASE"
    chown -R openldap:openldap /var/lib/ldap
    service start
    echo "  + demo people: $(sed -n 's/^uid: //p' "$PEOPLE" | tr '\n' ' ')(password: NAME-demo)"
fi

echo "The options for install.sh: --ldap-uri ldap://127.0.0.1 --ldap-base ou=people,$BASE --ldap-bind-dn cn=heichat,$BASE --ldap-password-file $PASSWORD"
