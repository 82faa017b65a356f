# A small town to try things in: a broker, a bank, a shop, and Alice with a wallet.
#
#   . docs/guide/town.sh      starts it, in a folder of its own; `bank`, `shop`, `alice` and `bob` are commands then
#   member bob 20.00          lets Bob come in, too
#   town_ends                 stops everything and removes the folder
#
# Alice has 50.00 USD in her account and no coins yet. ECASH_TOWN_PORT is the broker's port; TOWN_BANK holds options of
# `ecash bank init`, if the town's bank should differ.

TOWN=$(mktemp -d "${TMPDIR:-/tmp}/ecash-town-XXXXXX")
TOWN_BROKER=mqtt://127.0.0.1:${ECASH_TOWN_PORT:-18830}
export TOWN ECASH_PASSPHRASE="correct horse battery staple" COLUMNS=110

bank() { ECASH_BANK_HOME=$TOWN/bank ecash bank "$@"; }
shop() { ECASH_MERCHANT_HOME=$TOWN/shop ecash merchant "$@"; }
alice() { ECASH_WALLET_HOME=$TOWN/alice ecash wallet "$@"; }
bob() { ECASH_WALLET_HOME=$TOWN/bob ecash wallet "$@"; }

# start NAME SAYS COMMAND …: run a command beside the shell and wait until it has said that it is ready.
start() {
    local name=$1 says=$2
    shift 2
    : >"$TOWN/$name.log" # before it is read below
    "$@" >>"$TOWN/$name.log" 2>&1 &
    echo $! >"$TOWN/$name.pid"
    for _ in $(seq 300); do
        grep -q "$says" "$TOWN/$name.log" && return
        kill -0 "$(cat "$TOWN/$name.pid")" 2>/dev/null || break
        sleep 0.1
    done
    echo "$name did not start:" >&2
    cat "$TOWN/$name.log" >&2
    return 1
}

# stop NAME: end what `start` has started.
stop() {
    local pid
    pid=$(cat "$TOWN/$1.pid")
    kill "$pid" 2>/dev/null
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    rm -f "$TOWN/$1.pid"
}

# ended NAME: wait until what `start` has started has ended by itself.
ended() {
    while kill -0 "$(cat "$TOWN/$1.pid")" 2>/dev/null; do sleep 0.1; done
}

# free_port: one of this machine's where nothing listens.
free_port() {
    python3 - <<'PYTHON'
import random, socket
while True:
    port = random.randrange(10_000, 32_000)  # below those that the kernel gives to connections
    with socket.socket() as one:
        if one.connect_ex(("127.0.0.1", port)):
            break
print(port)
PYTHON
}

# comes TEXT COMMAND …: run a command again and again until it prints the text, for half a minute at most.
comes() {
    local text=$1
    shift
    for _ in $(seq 300); do
        "$@" 2>/dev/null | grep -F -e "$text" && return
        sleep 0.1
    done
    echo "it never came: $text" >&2
    return 1
}

broker_opens() { ECASH_BROKER_HOME=$TOWN/broker start broker Broker ecash broker run --port "${TOWN_BROKER##*:}"; }
bank_opens() { ECASH_BANK_HOME=$TOWN/bank start bank "is open" ecash bank run; }
shop_opens() { ECASH_MERCHANT_HOME=$TOWN/shop start shop "is open" ecash merchant run; }

# said KEY FILE: what a command has printed with --json under a key.
said() { python3 -c 'import json, sys; print(json.load(open(sys.argv[2]))[sys.argv[1]])' "$1" "$2"; }

# last alice [pay|withdraw|transfer …]: how the id of her newest exchange begins.
last() {
    "$1" history --json | python3 -c '
import json, sys
print([one for one in json.load(sys.stdin) if one["kind"] in sys.argv[1:] or not sys.argv[1:]][-1]["id"][:8])' "${@:2}"
}

# last_sale: how the number of the shop's newest sale begins.
last_sale() { shop sales --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[-1]["sale"][:8])'; }

# account NAME AMOUNT: open one, with money in it; the invitation is in $TOWN/NAME.json.
account() {
    bank open-account "$1" --json >"$TOWN/$1.json" &&
        bank credit "$(said account "$TOWN/$1.json")" "$2" --reference "cash of $1" >/dev/null
}

# member NAME AMOUNT: an account with money, and a wallet that claims it.
member() {
    "$1" init --json >"$TOWN/$1.words" &
    account "$1" "$2" && wait $! && "$1" register "$ECASH_BANK" --invitation "$(said invitation "$TOWN/$1.json")"
}

town_ends() {
    local pid
    for pid in "$TOWN"/*.pid; do
        [ -e "$pid" ] && stop "$(basename "$pid" .pid)"
    done
    rm -rf "$TOWN"
}

# What does not wait for each other is done at the same time, in a shell of its own so that this one stays quiet.
town_begins() (
    broker_opens &
    broker=$!
    alice init --json >"$TOWN/alice.words" &
    words=$!
    # shellcheck disable=SC2086 # several options
    bank init --broker "$TOWN_BROKER" --withdrawal-commission 1% --deposit-commission 0.5% \
        --largest-denomination 10 ${TOWN_BANK:-} --json >"$TOWN/bank.json" && wait $broker $words || return
    ECASH_BANK=$(said address "$TOWN/bank.json")
    bank_opens &
    bank=$!
    account alice 50.00 &
    alice=$!
    shop init shop --bank "$ECASH_BANK" --json >"$TOWN/shop.json" && wait $alice || return
    bank open-account shop --kind merchant --title "Blue Note Records" --key "$(said key "$TOWN/shop.json")" \
        >/dev/null && wait $bank || return
    shop_opens &
    shop=$!
    alice register "$ECASH_BANK" --invitation "$(said invitation "$TOWN/alice.json")" >/dev/null && wait $shop
)

town_begins && ECASH_BANK=$(said address "$TOWN/bank.json") && export ECASH_BANK
