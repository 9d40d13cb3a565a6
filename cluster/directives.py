"""What the directives of redis.conf mean to the core: its options, and which of them may change."""

from collections.abc import Callable

from cluster.desk import Options
from cluster.message import Face
from node.config import Config

BUS_OFFSET = 10000
# Options of the core by the directive that sets them; all of these may be changed by CONFIG SET.
WATCHED = {
    "cluster-announce-ip": "ip",
    "cluster-announce-hostname": "hostname",
    "cluster-announce-human-nodename": "human_name",
    "cluster-node-timeout": "node_timeout",
    "cluster-ping-interval": "ping_interval",
    "cluster-report-refused": "report_refused",
    "cluster-require-full-coverage": "require_full_coverage",
    "cluster-migration-barrier": "migration_barrier",
    "cluster-allow-replica-migration": "allow_replica_migration",
    "cluster-replica-validity-factor": "replica_validity_factor",
    "cluster-replica-no-failover": "replica_no_failover",
    "cluster-manual-failover-timeout": "manual_failover_timeout",
}
# These need more than their value.
PLACES = (
    *("port", "cluster-announce-port", "cluster-announce-tls-port", "cluster-announce-bus-port"),
    *("cluster-announce-client-ipv4", "cluster-announce-client-ipv6"),
    *("cluster-announce-client-port", "cluster-announce-client-tls-port", "availability-zone"),
)
SECONDS = {
    "cluster-blacklist-ttl": "blacklist_ttl",
    "repl-ping-replica-period": "replica_ping_period",
}


def bus_port(config: Config) -> int:
    """The port that the bus listens on."""
    return config.cluster_port or config.port + BUS_OFFSET


def set_options(options: Options, config: Config) -> None:
    """Bring the core's options up to date with the directives."""
    for name, option in WATCHED.items():
        setattr(options, option, getattr(config, name.replace("-", "_")))
    for name, option in SECONDS.items():
        setattr(options, option, getattr(config, name.replace("-", "_")) * 1000)
    options.port = config.cluster_announce_port or config.port
    options.face = Face(
        config.cluster_announce_client_ipv4,
        config.cluster_announce_client_ipv6,
        config.cluster_announce_client_port,
        config.cluster_announce_client_tls_port,
        config.availability_zone or "",
    )
    options.tls_port = config.cluster_announce_tls_port
    options.bus_port = config.cluster_announce_bus_port or bus_port(config)


def options_of(config: Config) -> Options:
    """The core's options as the directives have them."""
    options = Options()
    set_options(options, config)
    return options


def watch(options: Options, config: Config, changed: Callable[[], None]) -> None:
    """Let CONFIG SET reach the core's options, and call `changed` after that."""

    def follow(config: Config) -> None:
        set_options(options, config)
        changed()

    for name in (*WATCHED, *SECONDS, *PLACES):
        config.on_change(name, follow)
