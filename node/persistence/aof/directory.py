"""The parts of an append-only file on disk, and how a new set takes the place of the old one.

The manifest says what counts. So a file is there, whole and under its name for good, before the
manifest names it, and goes only after the manifest no longer does: a crash at any moment leaves
either the old set or the new one.
"""

import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from node.disk import Appender, replace_by_way_of, write_pieces
from node.persistence.aof.manifest import Manifest, Part, manifest_name

if TYPE_CHECKING:
    from node.config import Config
    from node.disk import Disk

_log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Directory:
    """Raises OSError throughout, and ManifestError where the manifest is read.

    manifest: as it is on disk.
    """

    disk: "Disk"
    config: "Config"
    manifest: Manifest = attrs.field(factory=Manifest)

    @property
    def prefix(self) -> str:
        """What the names of all parts begin with."""
        return self.config.appendfilename

    def path(self, name: str) -> str:
        return os.path.join(self.config.appenddirname, name)

    @property
    def temporary_increment(self) -> str:
        """The name of what is written while the first base is being made."""
        return f"temp-{self.prefix}.incr"

    # --- the manifest ----------------------------------------------------------------------------

    def read(self) -> None:
        """Read the manifest, if there is one."""
        name = self.path(manifest_name(self.prefix))
        if not self.disk.exists(name):
            _log.info("The AOF manifest file %s doesn't exist", name)
            self.manifest = Manifest()
            return
        self.manifest = Manifest.parse(self.disk.read(name))

    def save(self, manifest: Manifest) -> None:
        """Let this manifest count from here on."""
        self.disk.sync_directory(self.config.appenddirname)
        name = manifest_name(self.prefix)
        temporary = self.path(f"temp-{name}")
        replace_by_way_of(self.disk, temporary, self.path(name), [manifest.encode()])
        self.manifest = manifest

    def make(self) -> None:
        """Make the directory if it isn't there."""
        self.disk.make_directory(self.config.appenddirname)
        self.disk.sync_directory(os.path.dirname(self.config.appenddirname) or ".")

    # --- old servers' files ----------------------------------------------------------------------

    def is_to_upgrade(self) -> bool:
        """Whether there is a file of a server that knew only one part, and not yet taken over."""
        old, manifest = self.prefix, self.manifest
        if not self.disk.exists(old):
            return False
        begun = manifest.base is not None and manifest.base.name == old
        begun = begun and not manifest.increments and not self.disk.exists(self.path(old))
        return manifest.is_empty() or begun

    def upgrade(self) -> None:
        """Make that file the base."""
        old = self.prefix
        self.make()
        self.save(self.manifest.with_base(old))
        self.disk.rename(old, self.path(old))
        self.disk.sync_directory(self.config.appenddirname)
        self.disk.sync_directory(".")
        _log.info(
            "Successfully migrated an old-style AOF file (%s) into the AOF directory (%s).",
            *(old, self.config.appenddirname),
        )

    # --- parts -----------------------------------------------------------------------------------

    def size(self, part: Part) -> int:
        """Bytes in a part."""
        file = self.disk.open(self.path(part.name))
        try:
            return file.size()
        finally:
            file.close()

    def open_last_increment(self) -> tuple[Appender, int]:
        """The increment to go on with, made if there is none, and its size; all of it is
        durable."""
        manifest, act = self.manifest, "Opening"
        if not manifest.increments:
            manifest, act = manifest.with_new_increment(self.prefix), "Creating"
        name = manifest.increments[-1].name
        file = self.disk.append_to(self.path(name))
        try:
            file.sync()
            if manifest is not self.manifest:
                self.save(manifest)
            size = file.size()
        except BaseException:
            file.close()
            raise
        _log.info("%s AOF incr file %s on server start", act, name)
        return file, size

    def open_new_increment(self) -> Appender:
        """A further increment, for what happens from here on."""
        manifest = self.manifest.with_new_increment(self.prefix)
        name = manifest.increments[-1].name
        file = self._open_empty(name)
        try:
            self.save(manifest)
        except OSError:
            file.close()
            raise
        _log.info("Creating AOF incr file %s on background rewrite", name)
        return file

    def open_temporary_increment(self) -> Appender:
        """Where to write while there is no base yet that an increment could follow."""
        _log.info("Creating AOF incr file %s on background rewrite", self.temporary_increment)
        return self._open_empty(self.temporary_increment)

    def _open_empty(self, name: str) -> Appender:
        """A file of that name, emptied: one that is left from a failure may be named by the
        manifest, so it is not removed."""
        file = self.disk.append_to(self.path(name))
        try:
            if file.size():
                file.truncate(0)
        except OSError:
            file.close()
            raise
        return file

    def create_base(self, pieces: Iterable[bytes], is_rdb: bool) -> None:
        """Make a base at once."""
        manifest = self.manifest.with_new_base(self.prefix, is_rdb)
        assert manifest.base is not None
        _log.info("Creating AOF base file %s on server start", manifest.base.name)
        temporary = self.path(f"temp-{manifest.base.name}")
        replace_by_way_of(self.disk, temporary, self.path(manifest.base.name), pieces)
        self.save(manifest)

    def write_base(self, name: str, pieces: Iterable[bytes], sync_every: int) -> None:
        """Write what is to be a base into a file of that name, outside of the directory.

        One that is there is left from a crash: numbers of processes come again.
        """
        if self.disk.exists(name):
            self.disk.remove(name)
        write_pieces(self.disk, name, pieces, sync_every)

    def adopt(self, written: str, is_rdb: bool, *, waiting: bool, keep: int) -> None:
        """Let the base that has been written count, with the last `keep` increments after it.

        waiting: the one increment is the temporary one, and gets its name now.
        """
        manifest = self.manifest.with_new_base(self.prefix, is_rdb)
        assert manifest.base is not None
        base = manifest.base.name
        self.disk.rename(written, self.path(base))
        _log.info("Successfully renamed the temporary AOF base file %s into %s", written, base)
        if waiting:
            manifest = manifest.with_new_increment(self.prefix)
            increment = manifest.increments[-1].name
            self.disk.rename(self.path(self.temporary_increment), self.path(increment))
        self.save(manifest.without_increments(keep=keep))

    def remove_temporary_increment(self) -> None:
        """Remove what was written for a base that never came to be."""
        path = self.path(self.temporary_increment)
        if self.disk.exists(path):
            self.disk.remove(path)

    def history_paths(self) -> list[str]:
        """Where the files are that are history."""
        return [self.path(part.name) for part in self.manifest.history]

    def forget_history(self) -> None:
        """The files that are history have gone."""
        self.save(self.manifest.without_history())
