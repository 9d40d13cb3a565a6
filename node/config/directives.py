"""The table: every directive, in Redis's words and in groups of its redis.conf.

Names, bounds and defaults are those of valkey-server 9.1; where Valkey renamed a directive, the
name that Redis knows is the main one, so that both can read a file we have written.

A directive whose feature isn't there is `built=False`: known, accepted at its default and at
values that ask for nothing, refused at others. One whose feature cannot be told from its absence
(how memory is freed, when a file that is never written is synced) takes any valid value.

Units: a time is in seconds unless its note says otherwise, a size in bytes.
"""

from node.config.special import (
    Addresses,
    Directory,
    EventClasses,
    Flags,
    OomScores,
    OutputLimit,
    OutputLimits,
    OutputLimitsOf,
    Percentiles,
    PrimaryAddress,
    SavePoints,
    announced_ip,
    base_name,
    host_name,
    ip_address,
    node_name,
    not_empty,
    title_template,
)
from node.config.values import (
    INT,
    LOWEST_INT,
    UINT,
    UINT64,
    Choice,
    ConfigError,
    Directive,
    Integer,
    Memory,
    MemoryOrPercent,
    Octal,
    Secret,
    Text,
    YesNo,
)

_KB = 1024
_MB = 1024 * _KB
_GB = 1024 * _MB


def _possible_shutdown(flags: tuple[str, ...]) -> None:
    if "save" in flags and "nosave" in flags:
        raise ConfigError("shutdown options SAVE and NOSAVE can't be used simultaneously")


def _no_defragmentation(wanted: bool) -> None:
    if wanted:
        raise ConfigError(
            "Active defragmentation cannot be enabled: it requires a server compiled with a "
            "modified Jemalloc like the one shipped by default with the source distribution"
        )


def _no_rdma(wanted: object) -> None:
    if wanted:
        raise ConfigError("No RDMA building support.")


def _no_locale(wanted: str) -> None:
    if wanted:
        raise ConfigError("Invalid locale name")


def _usual_rate(hz: int) -> int:
    return min(max(hz, 1), 500)


def _at_least_16_kb(size: int) -> int:
    return max(size, 16 * _KB)


_EMPTY_IS_A_VALUE = False
_SHUTDOWN_FLAGS = "default save nosave now force safe failover"
_PROTECTION = "no yes local"


class Directives:
    """The values, one attribute each; see Config."""

    # Network
    bind = Addresses(("*", "-::*"))
    bind_source_addr = Text(built=False)
    port = Integer(6379, 0, 65535)
    protected_mode = YesNo(True)
    tcp_backlog = Integer(511, 0, INT, fixed=True)
    unixsocket = Text(fixed=True)
    unixsocketgroup = Text(fixed=True, built=False)
    unixsocketperm = Octal(0, 0, 0o777, fixed=True)
    timeout = Integer(0, 0, INT)
    tcp_keepalive = Integer(300, 0, INT)
    maxclients = Integer(10000, 1, UINT)
    max_new_connections_per_cycle = Integer(10, 1, 1000, built=False)
    socket_mark_id = Integer(0, 0, UINT, fixed=True, built=False)
    mptcp = YesNo(False, fixed=True, built=False)
    rdma_bind = Text(check=_no_rdma)
    rdma_port = Integer(0, 0, 65535, check=_no_rdma)
    rdma_rx_size = Integer(_MB, 64 * _KB, 16 * _MB, fixed=True, built=False)
    rdma_completion_vector = Integer(-1, -1, 1024, fixed=True, built=False)

    # TLS
    tls_port = Integer(0, 0, 65535, built=False)
    tls_replication = YesNo(False, built=False)
    tls_cluster = YesNo(False, built=False)
    tls_auth_clients = Choice("yes", "no yes optional", built=False)
    tls_auth_clients_user = Choice("off", "CN URI off", built=False)
    tls_auto_reload_interval = Integer(0, 0, INT, built=False)
    tls_prefer_server_ciphers = YesNo(False, built=False)
    tls_session_caching = YesNo(True, built=False)
    tls_session_cache_size = Integer(20480, 0, INT, built=False)
    tls_session_cache_timeout = Integer(300, 0, INT, built=False)
    tls_cert_file = Text(built=False)
    tls_key_file = Text(built=False)
    tls_key_file_pass = Secret(built=False)
    tls_client_cert_file = Text(built=False)
    tls_client_key_file = Text(built=False)
    tls_client_key_file_pass = Secret(built=False)
    tls_dh_params_file = Text(built=False)
    tls_ca_cert_file = Text(built=False)
    tls_ca_cert_dir = Text(built=False)
    tls_protocols = Text(built=False)
    tls_ciphers = Text(built=False)
    tls_ciphersuites = Text(built=False)
    max_new_tls_connections_per_cycle = Integer(1, 1, 1000, built=False)

    # General
    daemonize = YesNo(False, fixed=True)
    supervised = Choice("no", "upstart systemd auto no", fixed=True, built=False)
    pidfile = Text(fixed=True)
    loglevel = Choice("notice", "debug verbose notice warning nothing")
    logfile = Text(unset=_EMPTY_IS_A_VALUE, fixed=True)
    log_format = Choice("legacy", "legacy logfmt json", built=False)
    log_timestamp_format = Choice("legacy", "legacy iso8601 milliseconds", built=False)
    hide_user_data_from_log = YesNo(True)  # it is never logged
    syslog_enabled = YesNo(False, fixed=True, built=False)
    syslog_ident = Text("slotfleet", fixed=True)
    syslog_facility = Choice(
        "local0", "user local0 local1 local2 local3 local4 local5 local6 local7", fixed=True
    )
    crash_log_enabled = YesNo(True)
    crash_memcheck_enabled = YesNo(True)
    databases = Integer(16, 1, INT, fixed=True)
    always_show_logo = YesNo(False, fixed=True)
    set_proc_title = YesNo(True, fixed=True)
    proc_title_template = Text("{title} {listen-addr} {server-mode}", check=title_template)
    locale_collate = Text(unset=_EMPTY_IS_A_VALUE, check=_no_locale)
    ignore_warnings = Text(unset=_EMPTY_IS_A_VALUE)
    availability_zone = Text(unset=_EMPTY_IS_A_VALUE)
    extended_redis_compatibility = YesNo(False)  # we speak Redis's words either way
    import_mode = YesNo(False)
    enable_debug_command = Choice("no", _PROTECTION, fixed=True)
    enable_debug_assert = YesNo(False, fixed=True, hidden=True)  # we assert either way
    enable_module_command = Choice("no", _PROTECTION, fixed=True)  # there is none to protect
    enable_protected_configs = Choice("no", _PROTECTION, fixed=True)
    shutdown_timeout = Integer(10, 0, INT)
    shutdown_on_sigint = Flags(_SHUTDOWN_FLAGS, check=_possible_shutdown)
    shutdown_on_sigterm = Flags(_SHUTDOWN_FLAGS, check=_possible_shutdown)

    # Snapshots
    save = SavePoints(((3600, 1), (300, 100), (60, 10000)))
    stop_writes_on_bgsave_error = YesNo(True)
    rdbcompression = YesNo(True)
    rdbchecksum = YesNo(True, fixed=True)
    rdb_version_check = Choice("strict", "strict relaxed")
    rdb_del_sync_files = YesNo(False)  # a full sync leaves no file behind
    rdb_save_incremental_fsync = YesNo(True)
    dbfilename = Text("dump.rdb", protected=True, check=base_name("dbfilename"))
    dir = Directory(".", protected=True, not_while_loading=True, check=not_empty("dir"))
    rdb_key_save_delay = Integer(0, LOWEST_INT, INT, hidden=True)  # microseconds
    key_load_delay = Integer(0, LOWEST_INT, INT, hidden=True)  # microseconds
    loading_process_events_interval_bytes = Integer(2 * _MB, 1024, INT, hidden=True)

    # Append-only file
    appendonly = YesNo(False, not_while_loading=True)
    appendfilename = Text("appendonly.aof", fixed=True, check=base_name("appendfilename"))
    appenddirname = Text("appendonlydir", fixed=True, check=base_name("appenddirname", "dirname"))
    appendfsync = Choice("everysec", "everysec always no")
    no_appendfsync_on_rewrite = YesNo(False)
    auto_aof_rewrite_percentage = Integer(100, 0, INT)
    auto_aof_rewrite_min_size = Memory(64 * _MB)
    aof_load_truncated = YesNo(True)
    aof_load_corrupt_tail_max_size = Memory(0, hidden=True)  # a real server's since Redis 8.4
    aof_use_rdb_preamble = YesNo(True)
    aof_timestamp_enabled = YesNo(False)
    aof_rewrite_incremental_fsync = YesNo(True)
    aof_disable_auto_gc = YesNo(False, hidden=True)

    # Replication
    replicaof = PrimaryAddress(None, aliases=["slaveof"], fixed=True)
    masterauth = Secret(aliases=["primaryauth"])
    masteruser = Secret(aliases=["primaryuser"])
    replica_serve_stale_data = YesNo(True, aliases=["slave-serve-stale-data"])
    replica_read_only = YesNo(True, aliases=["slave-read-only"])
    replica_priority = Integer(100, 0, INT, aliases=["slave-priority"])
    replica_announced = YesNo(True)
    replica_announce_ip = Text(aliases=["slave-announce-ip"])
    replica_announce_port = Integer(0, 0, 65535, aliases=["slave-announce-port"])
    replica_ignore_maxmemory = YesNo(True, aliases=["slave-ignore-maxmemory"])
    replica_ignore_disk_write_errors = YesNo(False)
    replica_lazy_flush = YesNo(True, aliases=["slave-lazy-flush"])
    repl_diskless_sync = YesNo(True)
    repl_diskless_sync_delay = Integer(5, 0, INT)
    repl_diskless_sync_max_replicas = Integer(0, 0, INT)
    repl_diskless_load = Choice(
        "disabled",
        "disabled on-empty-db swapdb flush-before-load",
        not_while_loading=True,
    )
    repl_ping_replica_period = Integer(10, 1, INT, aliases=["repl-ping-slave-period"])
    repl_timeout = Integer(60, 1, INT)
    repl_disable_tcp_nodelay = YesNo(False)
    repl_backlog_size = Memory(10 * _MB, 1, adjust=_at_least_16_kb)
    repl_backlog_ttl = Integer(3600, 0)
    repl_mptcp = YesNo(False, fixed=True, built=False)
    dual_channel_replication_enabled = YesNo(False, built=False)
    min_replicas_to_write = Integer(0, 0, INT, aliases=["min-slaves-to-write"])
    min_replicas_max_lag = Integer(10, 0, INT, aliases=["min-slaves-max-lag"])
    propagation_error_behavior = Choice("ignore", "ignore panic panic-on-replicas")

    # Security
    requirepass = Secret()
    aclfile = Text(unset=_EMPTY_IS_A_VALUE, fixed=True)
    acllog_max_len = Integer(128, 0)
    acl_pubsub_default = Choice("resetchannels", "allchannels resetchannels")

    # Memory
    maxmemory = Memory(0, 0, UINT64)
    maxmemory_policy = Choice(
        "noeviction",
        "volatile-lru volatile-lfu volatile-random volatile-ttl "
        "allkeys-lru allkeys-lfu allkeys-random noeviction",
    )
    maxmemory_samples = Integer(5, 1, 64)
    maxmemory_eviction_tenacity = Integer(10, 0, 100)
    maxmemory_clients = MemoryOrPercent(0, -100, built=False)
    lfu_log_factor = Integer(10, 0, INT)
    lfu_decay_time = Integer(1, 0, INT)  # minutes
    active_expire_effort = Integer(1, 1, 10)
    lazyfree_lazy_eviction = YesNo(True)
    lazyfree_lazy_expire = YesNo(True)
    lazyfree_lazy_server_del = YesNo(True)
    lazyfree_lazy_user_del = YesNo(True)
    lazyfree_lazy_user_flush = YesNo(True)
    activerehashing = YesNo(True)
    activedefrag = YesNo(False, check=_no_defragmentation)
    active_defrag_ignore_bytes = Memory(100 * _MB, 1)
    active_defrag_threshold_lower = Integer(10, 0, 1000)
    active_defrag_threshold_upper = Integer(100, 0, 1000)
    active_defrag_cycle_min = Integer(1, 1, 99)
    active_defrag_cycle_max = Integer(25, 1, 99)
    active_defrag_cycle_us = Integer(500, 0, 100_000)
    active_defrag_max_scan_fields = Integer(1000, 1)
    jemalloc_bg_thread = YesNo(True)
    disable_thp = YesNo(True, fixed=True)
    oom_score_adj = Choice("no", "no yes relative absolute", same={"relative": "yes"}, built=False)
    oom_score_adj_values = OomScores((0, 200, 800))

    # Threads and processors
    io_threads = Integer(1, 1, 256, built=False)
    prefetch_batch_max_size = Integer(16, 0, 128)
    server_cpulist = Text(aliases=["server_cpulist"], fixed=True, built=False)
    bio_cpulist = Text(aliases=["bio_cpulist"], fixed=True, built=False)
    aof_rewrite_cpulist = Text(aliases=["aof_rewrite_cpulist"], fixed=True, built=False)
    bgsave_cpulist = Text(aliases=["bgsave_cpulist"], fixed=True, built=False)
    io_threads_always_active = YesNo(False, hidden=True, built=False)
    min_io_threads_avoid_copy_reply = Integer(7, 0, INT, hidden=True)
    min_string_size_avoid_copy_reply = Integer(16 * _KB, 0, INT, hidden=True)
    min_string_size_avoid_copy_reply_threaded = Integer(64 * _KB, 0, INT, hidden=True)

    # Scripts
    busy_reply_threshold = Integer(5000, 0, aliases=["lua-time-limit"])  # milliseconds
    lua_enable_insecure_api = YesNo(False, hidden=True, protected=True, built=False)
    lua_enable_deprecated_api = YesNo(False, hidden=True, protected=True, built=False)

    # Cluster
    cluster_enabled = YesNo(False, fixed=True)
    cluster_config_file = Text("nodes.conf", fixed=True, check=not_empty("cluster-config-file"))
    cluster_config_save_behavior = Choice("sync", "sync best-effort")
    cluster_node_timeout = Integer(15000, 0)  # milliseconds
    cluster_report_refused = YesNo(True)  # our own: a refused bus port is a dead process
    cluster_ping_interval = Integer(0, 0, hidden=True)  # milliseconds; 0: the usual second
    cluster_message_gossip_perc = Integer(10, 1, 100, hidden=True, built=False)
    cluster_port = Integer(0, 0, 65535, fixed=True)
    cluster_databases = Integer(1, 1, INT, fixed=True)
    cluster_replica_validity_factor = Integer(10, 0, INT, aliases=["cluster-slave-validity-factor"])
    cluster_replica_no_failover = YesNo(False, aliases=["cluster-slave-no-failover"])
    cluster_manual_failover_timeout = Integer(5000, 1, INT)  # milliseconds
    cluster_migration_barrier = Integer(1, 0, INT)
    cluster_allow_replica_migration = YesNo(True)
    cluster_require_full_coverage = YesNo(True)
    cluster_allow_reads_when_down = YesNo(False)
    cluster_allow_pubsubshard_when_down = YesNo(True)
    cluster_link_sendbuf_limit = Memory(0, 0, UINT64)
    cluster_blacklist_ttl = Integer(60)
    cluster_preferred_endpoint_type = Choice("ip", "ip hostname unknown-endpoint")
    cluster_slot_stats_enabled = YesNo(False)
    cluster_slot_migration_log_max_len = Integer(1000, 0)
    slot_migration_max_failover_repl_bytes = Memory(0, -1)
    cluster_announce_ip = Text(check=announced_ip)
    cluster_announce_port = Integer(0, 0, 65535)
    cluster_announce_tls_port = Integer(0, 0, 65535)
    cluster_announce_bus_port = Integer(0, 0, 65535)
    cluster_announce_hostname = Text(check=host_name)
    cluster_announce_human_nodename = Text(check=node_name)
    cluster_announce_client_ipv4 = Text(check=ip_address(4))
    cluster_announce_client_ipv6 = Text(check=ip_address(6))
    cluster_announce_client_port = Integer(0, 0, 65535)
    cluster_announce_client_tls_port = Integer(0, 0, 65535)

    # Slow commands and latency
    slowlog_log_slower_than = Integer(
        10000, -1, aliases=["commandlog-execution-slower-than"]
    )  # microseconds
    slowlog_max_len = Integer(128, 0, aliases=["commandlog-slow-execution-max-len"])
    commandlog_request_larger_than = Integer(_MB, -1)
    commandlog_large_request_max_len = Integer(128, 0)
    commandlog_reply_larger_than = Integer(_MB, -1)
    commandlog_large_reply_max_len = Integer(128, 0)
    latency_monitor_threshold = Integer(0, 0)  # milliseconds
    latency_tracking = YesNo(True)
    latency_tracking_info_percentiles = Percentiles((50.0, 99.0, 99.9))

    # Events
    notify_keyspace_events = EventClasses(0)
    tracking_table_max_keys = Integer(1_000_000, 0)

    # Encodings
    hash_max_listpack_entries = Integer(512, 0, aliases=["hash-max-ziplist-entries"])
    hash_max_listpack_value = Memory(64, aliases=["hash-max-ziplist-value"])
    list_max_listpack_size = Integer(-2, LOWEST_INT, INT, aliases=["list-max-ziplist-size"])
    list_compress_depth = Integer(0, 0, INT)
    set_max_intset_entries = Integer(512, 0)
    set_max_listpack_entries = Integer(128, 0)
    set_max_listpack_value = Integer(64, 0)
    zset_max_listpack_entries = Integer(128, 0, aliases=["zset-max-ziplist-entries"])
    zset_max_listpack_value = Memory(64, aliases=["zset-max-ziplist-value"])
    hll_sparse_max_bytes = Memory(3000)
    stream_node_max_bytes = Memory(4096)
    stream_node_max_entries = Integer(100, 0)
    hash_seed = Text(unset=_EMPTY_IS_A_VALUE, fixed=True, built=False)

    # Clients
    client_query_buffer_limit = Memory(_GB, _MB)
    client_output_buffer_limit = OutputLimitsOf(
        OutputLimits(
            normal=OutputLimit(0, 0, 0),
            replica=OutputLimit(256 * _MB, 64 * _MB, 60),
            pubsub=OutputLimit(32 * _MB, 8 * _MB, 60),
        )
    )
    proto_max_bulk_len = Memory(512 * _MB, _MB)
    hz = Integer(10, 0, INT, adjust=_usual_rate)

    # For a server's own tests
    use_exit_on_panic = YesNo(False, hidden=True, built=False)
    watchdog_period = Integer(0, 0, INT, hidden=True, built=False)  # milliseconds


BY_ATTRIBUTE: dict[str, Directive] = {
    attribute: value
    for attribute, value in vars(Directives).items()
    if isinstance(value, Directive)
}
BY_NAME: dict[str, Directive] = {
    name: directive
    for directive in BY_ATTRIBUTE.values()
    for name in (directive.name, *directive.aliases)
}

# Of older servers; a file may name them, with one word, to no effect.
FORGOTTEN = frozenset(
    {
        *("list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"),
        *("dynamic-hz", "io-threads-do-reads", "events-per-io-thread", "sanitize-dump-payload"),
    }
)
