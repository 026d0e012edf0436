"""Class C: identity and information."""

from .attempts import Attempt, Control, Modest, Outside, c, everywhere, levels
from .verdicts import Allowed, Found, killed, refused

TRY_IT = "none: the host looks from outside"
LANGUAGES = {"c": "C", "python": "Python", "javascript": "JavaScript", "wasm": "WASM"}

ROWS: list[Attempt] = [
    *(
        Attempt(
            f"secret-in-memory-{language}",
            f"a secret of the host, in all memory of the process ({name})",
            language,
            Outside("memory"),
            everywhere(Found(0, "not there")),
            "fork servers are started by exec, with an environment of their own",
            "the same look at the host's own process finds it",
        )
        for language, name in LANGUAGES.items()
    ),
    c(
        "search_own_memory",
        "the same, looked for from inside",
        everywhere(Found(b"0", "not there")),
        "fork servers are started by exec, with an environment of their own",
        "{backwards} 1",
        Modest((b"ereh-ylno-si-taht-txet-a 1",), b"2"),
        id="secret-from-inside",
    ),
    Attempt(
        "secret-in-objects",
        "a secret of the host in any object of Python",
        "python",
        "search",
        everywhere(Found(0, "not there")),
        "the same",
        "none: see secret-in-memory",
        ("{backwards}",),
    ),
    Attempt(
        "secret-in-main",
        "the same in the main interpreter",
        "python-main",
        "search",
        everywhere(Found(0, "not there")),
        "the same",
        "none: see secret-in-memory",
        ("{backwards}",),
    ),
    Attempt(
        "python-environment",
        "the host's environment",
        "python-main",
        "environment",
        everywhere(Found(["HOME", "LC_CTYPE", "TZ"], "three variables, ours")),
        "the same",
        Control("value ['"),
    ),
    *(
        Attempt(
            f"rights-{language}",
            f"any right that is left ({name})",
            language,
            Outside("status"),
            everywhere(Found([0, "1", "2", "", True], "none")),
            "no capability in any set, no group, a user of its own, no new privileges",
            TRY_IT,
        )
        for language, name in LANGUAGES.items()
    ),
    *(
        Attempt(
            f"namespaces-{language}",
            f"a namespace that it shares with the host ({name})",
            language,
            Outside("namespaces"),
            everywhere(Found([], "none")),
            "user, mount, PID, network, IPC, UTS, cgroup",
            TRY_IT,
        )
        for language, name in LANGUAGES.items()
    ),
    *(
        Attempt(
            f"descriptors-{language}",
            f"descriptors that leaked in ({name})",
            language,
            Outside("descriptors"),
            everywhere(Found(["0", "1", "2", "3"], "null, the log twice, the lane")),
            "all others are closed first",
            TRY_IT,
        )
        for language, name in LANGUAGES.items()
    ),
    *(
        Attempt(
            f"writable-code-{language}",
            f"pages that are writable and executable ({name})",
            language,
            Outside("writable code"),
            everywhere(Found([], "none")),
            "engines write code, then seal it",
            TRY_IT,
        )
        for language, name in LANGUAGES.items()
    ),
    Attempt(
        "same-user",
        "a sibling that is the same user",
        "c",
        Outside("same user"),
        everywhere(Found(False, "no")),
        "each process has a user of its own",
        TRY_IT,
        sibling=("ping", b""),
    ),
    c(
        "take_capabilities",
        "`capset` of every capability",
        levels(refused("EPERM"), killed("capset"), killed("capset")),
        "the bounding set is empty",
        "",
        Control(args=("1",)),
    ),
    c(
        "become_root",
        "`setuid(0)`",
        levels(refused("EINVAL"), killed("setuid"), killed("setuid")),
        "its user namespace has no user 0",
    ),
    c(
        "become_other",
        "`setresuid` to a sibling's user",
        levels(refused("EINVAL"), killed("setresuid"), killed("setresuid")),
        "its user namespace has one user",
    ),
    c(
        "join_groups",
        "`setgroups`",
        levels(refused("EPERM"), killed("setgroups"), killed("setgroups")),
        "denied when the user namespace was made",
    ),
    c(
        "rename_machine",
        "`sethostname`",
        levels(killed("sethostname"), killed("sethostname"), killed("sethostname")),
        "on no list; a name of its own",
    ),
    c(
        "machine_name",
        "the machine's name",
        levels(Found(b"frys", "`frys`"), refused("EPERM"), refused("EPERM")),
        "a UTS namespace of its own",
        control="none: any machine may have any name",
    ),
    Attempt(
        "layout",
        "where a sibling's libraries lie",
        "c",
        Outside("same layout"),
        everywhere(Allowed(True, "not stopped: the addresses are the same")),
        "plugins of one format are forked from one server",
        TRY_IT,
        sibling=("ping", b""),
    ),
    Attempt(
        "uptime",
        "how long the machine has been up",
        "c",
        Outside("uptime"),
        everywhere(Allowed(True, "not stopped: clocks tell it")),
        "time is not hidden",
        TRY_IT,
    ),
    *(
        Attempt(
            f"same-random-{language}",
            f"random numbers that a sibling draws, too ({name})",
            language,
            Outside("same draw"),
            everywhere(Found(False, "they differ")),
            "generators are seeded after the fork",
            TRY_IT,
            sibling=("ping", b"") if language == "c" else ("ping",),
        )
        for language, name in {
            "c": "C",
            "python": "Python",
            "javascript": "JavaScript",
            "wasi": "WASM",
        }.items()
    ),
]
