r"""What the fields of a scenario line look like, said once for Python's `re` and Polars' Rust expressions.

    <time>,<user>,GET /data/m/<movie>/<minute>.mpg
    <time>,<user>,GET /rate/<movie>=<1..5>
    <time>,<user>,recommendation request <host>:<port>, status <code>, result: <movie>, …, <ms> ms

Every class is ASCII and spelled out, because `\d` means more than ten characters to either engine. Nothing
here nests one repetition in another over the same characters, so matching stays linear.
"""

MINUTE_TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}"
"""Local date, hour and minute: the 16 characters that every time begins with."""
TIME = rf"({MINUTE_TIME})(?::([0-9]{{2}})(?:\.([0-9]{{1,9}}))?)?"
"""A time in three groups: up to the minute, second, fraction. Whether such a time exists is not said here."""
USER = "[0-9]{1,18}"
MOVIE_CHARACTER = "[a-z0-9*+_.-]"
MOVIE = rf"(?:{MOVIE_CHARACTER}+\+[0-9]{{4}}|[+_.-]*[a-z0-9*]{MOVIE_CHARACTER}*\+)"
r"""Title words and a year, or a title and a bare `+`; `core.ids.MAX_ID_LENGTH` bounds it besides.

With a year the title may be nothing but signs (`++++2013` is what is left of a title in another script); a
bare `+` must follow at least one letter, digit or `*`.
"""
MINUTE = "[0-9]{1,4}"
RATING = "[1-5]"
HOST = r"[!-+\--~]{1,253}:[0-9]{1,5}"
"""Printable ASCII but space and comma, then the port."""
STATUS = "[0-9]{1,3}"
MILLISECONDS = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"

WATCH_FORM = "GET /data/m/"
RATING_FORM = "GET /rate/"
RECEIVED_FORM = "recommendation request "
FORMS = (WATCH_FORM, RATING_FORM, RECEIVED_FORM)
"""What the third field of a line begins with: these tell the forms apart."""
