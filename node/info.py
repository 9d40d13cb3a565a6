"""INFO: sections of fields that clients, redis-cli and exporters read.

A section is a function that gives (field, value) pairs; whoever owns what it tells registers it.

https://redis.io/docs/latest/commands/info/
"""

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from node.acl.denials import AUTH
from node.acl.selector import CHANNEL as OTHER_CHANNEL
from node.acl.selector import COMMAND, KEY, OTHER_DATABASE
from node.command import every_row
from node.config.file import REDIS_VERSION, VALKEY_VERSION
from node.data.hash import Hash
from node.data.keyspace import Database
from node.pubsub import CHANNEL, PATTERN, SHARD
from node.replies import Wait

if TYPE_CHECKING:
    from node.node import Node
    from node.persistence.loading import Loading
    from node.scripting.engine import Scripting

Fields = Iterable[tuple[str, object]]
Section = Callable[["Node"], Fields]

SERVER_NAME = "slotfleet"
_IN_ORDER = (
    *("server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules"),
    *("commandstats", "errorstats", "latencystats", "cluster", "keyspace"),
)
_ONLY_ON_DEMAND = frozenset(("commandstats", "latencystats"))
_DAY_S = 24 * 60 * 60
_HASHES_COUNTED = 100_000  # looked at one by one
_TTL_SAMPLES = 1000  # deadlines that avg_ttl is the mean of, at most

_sections: dict[str, Section] = {}


def section(title: str) -> Callable[[Section], Section]:
    """Register a section under its title, in place of one that was there."""

    def enter(function: Section) -> Section:
        _sections[title] = function
        return function

    return enter


def text(node: "Node", names: Iterable[str]) -> str:
    """The sections of these names; `default`, `all` and `everything` name many, none is default.

    Unknown names are ignored.
    """
    wanted: set[str] = set()
    for name in names:
        wanted |= _meaning(name.lower())
    titles = sorted(_sections, key=_place)
    shown = [_shown(title, _sections[title](node)) for title in titles if title.lower() in wanted]
    return "\r\n".join(shown)


def _meaning(name: str) -> set[str]:
    known = {title.lower() for title in _sections}
    if name == "default":
        return known - _ONLY_ON_DEMAND
    if name == "all":
        return known - {"modules"}
    return known if name == "everything" else {name}


def _place(title: str) -> int:
    return _IN_ORDER.index(title.lower()) if title.lower() in _IN_ORDER else len(_IN_ORDER)


def _shown(title: str, fields: Fields) -> str:
    return f"# {title}\r\n" + "".join(f"{name}:{value}\r\n" for name, value in fields)


def human(size: int) -> str:
    """Bytes as people read them: 1.50M."""
    if size < 1024:
        return f"{size}B"
    for unit in "KMGTP":
        size_in_unit = size / 1024 ** ("KMGTP".index(unit) + 1)
        if size_in_unit < 1024 or unit == "P":
            return f"{size_in_unit:.2f}{unit}"
    raise AssertionError


# --- the sections ---------------------------------------------------------------------------------


@section("Server")
def server(node: "Node") -> Fields:
    config, host = node.config, node.host
    uptime_s = (node.now_ms - node.started_ms) // 1000
    mode = "cluster" if node.topology.clustered else "standalone"
    yield from (
        ("redis_version", REDIS_VERSION),
        ("server_name", SERVER_NAME),
        ("valkey_version", VALKEY_VERSION),
        ("valkey_release_stage", "ga"),
        ("redis_git_sha1", "00000000"),
        ("redis_git_dirty", 0),
        ("redis_build_id", "0000000000000000"),
        ("redis_mode", mode),
        ("server_mode", mode),
        ("os", host.system),
        ("arch_bits", 64),
        ("multiplexing_api", "epoll"),
        ("process_id", host.process_id),
        ("process_supervised", config.supervised),
        ("run_id", node.run_id),
        ("tcp_port", config.port),
        ("server_time_usec", node.keyspace.now_ms * 1000),
        ("uptime_in_seconds", uptime_s),
        ("uptime_in_days", uptime_s // _DAY_S),
        ("hz", config.hz),
        ("configured_hz", config.hz),
        ("lru_clock", node.keyspace.now_ms // 1000 & 0xFFFFFF),
        ("executable", host.executable),
        ("config_file", config.file),
        ("io_threads_active", 0),
        ("availability_zone", config.availability_zone or ""),
    )
    addresses = "".join(f"bind={address}," for address in config.bind)
    yield "listener0", f"name=tcp,{addresses}port={config.port}"


@section("Clients")
def clients(node: "Node") -> Fields:
    sessions = list(node.sessions.values())
    blocked = [one.waiting for one in sessions if one.waiting is not None]
    paused = node.pause
    return (
        ("connected_clients", len(sessions)),
        ("cluster_connections", 0),
        ("maxclients", node.config.maxclients),
        ("client_recent_max_input_buffer", max((one.held() for one in sessions), default=0)),
        ("client_recent_max_output_buffer", max((one.unsent() for one in sessions), default=0)),
        ("blocked_clients", len(blocked)),
        ("tracking_clients", len(node.tracking.sessions)),
        ("pubsub_clients", node.pubsub.clients()),
        ("watching_clients", node.watches.clients()),
        ("clients_in_timeout_table", sum(wait.deadline_ms is not None for wait in blocked)),
        ("total_watched_keys", node.watches.keys()),
        ("total_blocking_keys", len(_places(blocked))),
        (
            "total_blocking_keys_on_nokey",
            len(_places(wait for wait in blocked if wait.kind is None)),
        ),
        ("paused_reason", paused.reason()),
        ("paused_actions", _paused_actions(node)),
        ("paused_timeout_milliseconds", max(paused.until_ms - node.now_ms, 0)),
    )


def _places(waits: Iterable[Wait]) -> set[tuple[int, bytes]]:
    """The keys that somebody waits for."""
    return {place for wait in waits for place in wait.keys}


def _paused_actions(node: "Node") -> str:
    if not node.pause.is_on():
        return "none"
    return "all" if node.pause.everything else "write"


def memory_used(node: "Node") -> tuple[int, int]:
    """The bytes in use now, and the most that was ever seen to be."""
    used = node.eviction.used()
    peak = node.observe.peak_memory = max(node.observe.peak_memory, used)
    return used, peak


@section("Memory")
def memory(node: "Node") -> Fields:
    (used, peak), total = memory_used(node), node.host.total_memory
    resident = node.host.memory()
    limit = node.config.maxmemory
    unsent = sum(one.unsent() for one in node.sessions.values())
    return (
        ("used_memory", used),
        ("used_memory_human", human(used)),
        ("used_memory_rss", resident),
        ("used_memory_rss_human", human(resident)),
        ("used_memory_peak", peak),
        ("used_memory_peak_human", human(peak)),
        ("used_memory_peak_perc", f"{100 * used / peak if peak else 0:.2f}%"),
        ("used_memory_startup", node.observe.startup_memory),
        ("used_memory_dataset", max(used - node.observe.startup_memory, 0)),
        ("total_system_memory", total),
        ("total_system_memory_human", human(total)),
        *_scripting(node.scripting),
        ("maxmemory", limit),
        ("maxmemory_human", human(limit)),
        ("maxmemory_policy", node.config.maxmemory_policy),
        ("mem_fragmentation_ratio", "1.00"),
        ("mem_fragmentation_bytes", 0),
        ("mem_not_counted_for_evict", 0),
        ("mem_replication_backlog", node.log.backlog_length()),
        ("mem_clients_normal", unsent),
        ("mem_allocator", "python"),
        ("active_defrag_running", 0),
        ("lazyfree_pending_objects", 0),
        ("lazyfreed_objects", 0),
    )


def _scripting(scripting: "Scripting") -> Fields:
    """One interpreter runs scripts and functions: what libraries have taken of it is theirs."""
    total, libraries = scripting.memory_used(), scripting.libraries
    functions = libraries.memory_used()
    interpreter = max(0, total - functions)
    sources = scripting.cache.size() + libraries.size()
    return (
        ("used_memory_lua", interpreter),
        ("used_memory_vm_eval", interpreter),
        ("used_memory_lua_human", human(interpreter)),
        ("used_memory_scripts_eval", scripting.cache.size()),
        ("number_of_cached_scripts", len(scripting.cache)),
        ("number_of_functions", len(libraries.functions)),
        ("number_of_libraries", len(libraries.by_name)),
        ("used_memory_vm_functions", functions),
        ("used_memory_vm_total", total),
        ("used_memory_vm_total_human", human(total)),
        ("used_memory_functions", libraries.size()),
        ("used_memory_scripts", sources),
        ("used_memory_scripts_human", human(sources)),
    )


@section("Persistence")
def persistence(node: "Node") -> Fields:
    saves = node.saves
    yield from (
        ("loading", int(node.loading is not None)),
        ("async_loading", int(node.role.loads_aside())),
        ("rdb_changes_since_last_save", saves.changes()),
        ("rdb_bgsave_in_progress", int(saves.running is not None)),
        ("rdb_last_save_time", saves.saved_at_ms // 1000),
        ("rdb_last_bgsave_status", "err" if saves.failed else "ok"),
        ("rdb_last_bgsave_time_sec", _seconds(saves.took_ms)),
        ("rdb_current_bgsave_time_sec", _seconds(saves.running_ms())),
        ("rdb_saves", saves.started),
        ("rdb_last_cow_size", 0),
        ("rdb_last_load_keys_expired", saves.keys_expired),
        ("rdb_last_load_keys_loaded", saves.keys_loaded),
    )
    yield from node.aof.info().items()
    if node.loading is not None:
        yield from _progress(node.loading, node.keyspace.now_ms)


def _progress(loading: "Loading", now_ms: int) -> Fields:
    """How far a data set has been loaded; of an unknown size, twice what there is."""
    total = loading.total or 2 * loading.loaded
    return (
        ("loading_start_time", loading.started_ms // 1000),
        ("loading_total_bytes", total),
        ("loading_rdb_used_mem", 0),
        ("loading_loaded_bytes", loading.loaded),
        ("loading_loaded_perc", f"{100 * loading.loaded / total if total else 0:.2f}"),
        ("loading_eta_seconds", loading.seconds_left(now_ms)),
    )


def _seconds(milliseconds: int | None) -> int:
    return -1 if milliseconds is None else milliseconds // 1000


@section("Stats")
def stats(node: "Node") -> Fields:
    observe, keyspace, pubsub = node.observe, node.keyspace, node.pubsub
    refused = node.acl.log.counts
    received, sent = node.bytes_moved()
    return (
        ("total_connections_received", observe.connections),
        ("total_commands_processed", node.commands_processed()),
        ("instantaneous_ops_per_sec", round(observe.command_rate.per_second())),
        ("total_net_input_bytes", received),
        ("total_net_output_bytes", sent),
        ("total_net_repl_input_bytes", observe.replication_bytes_in),
        ("total_net_repl_output_bytes", observe.replication_bytes_out),
        ("total_net_cluster_slot_import_bytes", observe.slot_bytes_in),
        ("total_net_cluster_slot_export_bytes", observe.slot_bytes_out),
        ("instantaneous_input_kbps", f"{observe.input_rate.per_second() / 1024:.2f}"),
        ("instantaneous_output_kbps", f"{observe.output_rate.per_second() / 1024:.2f}"),
        ("rejected_connections", observe.connections_rejected),
        ("sync_full", observe.full_syncs),
        ("sync_partial_ok", observe.partial_syncs),
        ("sync_partial_err", observe.partial_syncs_refused),
        ("expired_keys", keyspace.expired),
        ("expired_fields", keyspace.expired_fields),
        ("evicted_keys", node.eviction.evicted),
        ("evicted_clients", 0),
        ("evicted_scripts", node.scripting.cache.evicted),
        ("total_eviction_exceeded_time", 0),
        ("current_eviction_exceeded_time", 0),
        ("keyspace_hits", keyspace.hits),
        ("keyspace_misses", keyspace.misses),
        ("pubsub_channels", len(pubsub.by_name[CHANNEL])),
        ("pubsub_patterns", len(pubsub.by_name[PATTERN])),
        ("pubsubshard_channels", len(pubsub.by_name[SHARD])),
        ("latest_fork_usec", observe.fork_us),
        ("total_forks", observe.forks),
        ("migrate_cached_sockets", node.moving.connections()),
        ("slave_expires_tracked_keys", 0),
        ("tracking_total_keys", len(node.tracking.readers)),
        ("tracking_total_items", node.tracking.items),
        ("tracking_total_prefixes", len(node.tracking.prefixes)),
        ("unexpected_error_replies", 0),
        ("total_error_replies", observe.errors.total),
        ("client_query_buffer_limit_disconnections", observe.input_overflows),
        ("client_output_buffer_limit_disconnections", observe.output_overflows),
        ("acl_access_denied_auth", refused[AUTH]),
        ("acl_access_denied_cmd", refused[COMMAND]),
        ("acl_access_denied_key", refused[KEY]),
        ("acl_access_denied_channel", refused[OTHER_CHANNEL]),
        ("acl_access_denied_tls_cert", 0),
        ("acl_access_denied_db", refused[OTHER_DATABASE]),
    )


@section("Replication")
def replication(node: "Node") -> Fields:
    return node.describe_replication().items()


@section("CPU")
def cpu(node: "Node") -> Fields:
    spent = node.host.cpu_time()
    return (
        ("used_cpu_sys", f"{spent.system:.6f}"),
        ("used_cpu_user", f"{spent.user:.6f}"),
        ("used_cpu_sys_children", f"{spent.children_system:.6f}"),
        ("used_cpu_user_children", f"{spent.children_user:.6f}"),
        ("used_active_time_main_thread", f"{spent.system + spent.user:.6f}"),
    )


@section("Modules")
def modules(node: "Node") -> Fields:
    return ()


@section("Commandstats")
def commandstats(node: "Node") -> Fields:
    for row in every_row():
        if row.calls or row.failed or row.rejected:
            microseconds = row.times.of_all(row.calls) // 1000
            each = microseconds / row.calls if row.calls else 0
            yield (
                f"cmdstat_{row.name.decode()}",
                f"calls={row.calls},usec={microseconds},usec_per_call={each:.2f},"
                f"rejected_calls={row.rejected},failed_calls={row.failed}",
            )


@section("Latencystats")
def latencystats(node: "Node") -> Fields:
    if not node.config.latency_tracking:
        return
    percentiles = node.config.latency_tracking_info_percentiles
    for row in every_row():
        if row.times.count:
            name = row.name.decode()
            shown = (f"p{p:g}={row.times.percentile(p) / 1000:.3f}" for p in percentiles)
            yield f"latency_percentiles_usec_{name}", ",".join(shown)


@section("Errorstats")
def errorstats(node: "Node") -> Fields:
    return [
        (f"errorstat_{kind.decode(errors='replace')}", f"count={count}")
        for kind, count in sorted(node.observe.errors.by_kind.items())
    ]


@section("Cluster")
def cluster(node: "Node") -> Fields:
    return (("cluster_enabled", int(node.topology.clustered)),)


@section("Keyspace")
def keyspace(node: "Node") -> Fields:
    now_ms = node.keyspace.now_ms
    for db in node.keyspace.databases:
        size = len(db)
        if size:
            expires = min(len(db.expires), size)
            some = list(itertools.islice(db.expires.values(), _TTL_SAMPLES))
            left = sum(at_ms - now_ms for at_ms in some) // len(some) if some else 0
            yield (
                f"db{db.index}",
                f"keys={size},expires={expires},avg_ttl={max(left, 0)},"
                f"keys_with_volatile_items={_volatile_hashes(db)}",
            )


def _volatile_hashes(db: Database) -> int:
    """How many hashes have fields with deadlines; at most so many, where they are very many."""
    if len(db.field_expires) > _HASHES_COUNTED:
        return len(db.field_expires)
    values = (db.peek(key) for key in tuple(db.field_expires))
    return sum(type(value) is Hash and bool(value.expires) for value in values)
