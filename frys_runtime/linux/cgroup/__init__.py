"""Kernel limits on memory, processes and CPU for a group of processes: cgroups.

The controllers that matter here (memory, pids, cpu) may each live on version 2, where one directory
tree carries all of them, or on version 1, where each has a tree of its own; a machine may mix the two
(the "hybrid" set-up). Version 2 also has io, under that name. The rest of this package sees *hierarchies*: a
directory that belongs to this process, the controllers that it carries, and its version. Nothing outside this
package opens a file there.

    <own cgroup>/                            in every hierarchy that carries a wanted controller
        supervisor/                          v2 only: where the host process moves, see below
        frys-<pidns>-<pid>-<start>-<n>/      one CgroupTree: named so that a later host can tell it is stale
            <name>/                          one Cgroup: the limits of one plugin process

Version 2 forbids processes in a cgroup that hands controllers to children (cgroups(7), "no internal
processes"), so the processes of the own cgroup move into the leaf ``supervisor`` first: not only the own
one, because one left behind is enough to make the kernel refuse. They stay below the same parent and
under the same limits. The leaf stays for as long as a process lives in it; the next tree reuses it.

Measured, and decisive: a group of four v1 hierarchies is made in 0.25 ms and gets other limits in 0.04 ms,
so nothing is pooled and no descriptor is kept; joining it after 50 ms of idleness costs 9 ms, nearly all of
it in the kernel waiting, so the child joins by itself, ahead of time.
"""

from .files import CgroupError as CgroupError
from .group import (
    Cgroup as Cgroup,
    CgroupLimits as CgroupLimits,
    CgroupUsage as CgroupUsage,
    StorageLimit as StorageLimit,
)
from .places import Missing as Missing, Support as Support, probe as probe
from .tree import CgroupTree as CgroupTree
