"""The script of a plain TES task: the job's own shell command in the rule's own image, and around it what Snakemake
would have done: folders, logs, `touch()`, `ensure()`, benchmark, and a last look that every declared output is
there."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import PurePosixPath

from snakemake_tes_auth.workflow.adapter import THREAD_VARIABLES
from snakemake_tes_auth.workflow.jobview import JobFile, JobView

# Snakemake puts it into each directory output: an empty one is kept by object stores for its sake
STAMP = ".snakemake_timestamp"
MANY = 20  # outputs that are looked at one by one
SUMS = {"sha256": "sha256sum", "sha1": "sha1sum", "md5": "md5sum"}

# run COMMAND RULE LOG…: as a process of its own, so that nothing of it (exit, traps, variables) reaches this script.
# Where it fails no output is stored, its logs neither: what they end with goes to standard error.
_RUN = """\
export TMPDIR="${TMPDIR:-/tmp}"; export TMP="$TMPDIR" TEMP="$TMPDIR" TEMPDIR="$TMPDIR"
failed() { echo "$2" >&2; echo "GDI-ERROR class=$1" >&2; exit 1; }
ended() { local code=$1 rule=$2 log; shift 2
  for log; do [ ! -s "$log" ] || { echo "--- the end of $log:"; tail -c 4000 -- "$log"; } >&2; done
  [ -z "$rule" ] || echo "rule $rule: the command ended with exit code $code" >&2; exit "$code"; }
run() { local command=$1; shift; "$BASH" -c "$command" || ended "$?" "$@"; }
file() { [ -e "$1" ] || failed MissingOutput "the output $1 was not made"
  [ ! -d "$1" ] || failed ImproperOutput \
    "the output $1 is a directory, which its rule does not declare by directory()"; }"""
# What only some jobs need: a task's definition stays small.
_HELPERS = {
    "folder": f"""\
folder() {{ [ -d "$1" ] || failed MissingOutput "the output directory $1 was not made"; : > "$1/{STAMP}"; }}""",
    "moved": """\
moved() { find -L "$1/" -type l -exec rm -f -- {} + 2>/dev/null || :
  if [ -z "$(find "$1/" -type l 2>/dev/null | head -n 1)" ] && [ ! -L "$1" ] && rmdir -- "$2" 2>/dev/null &&
    mv -- "$1" "$2" 2>/dev/null; then return; fi
  mkdir -p -- "$2"
  cp -rL -- "$1/." "$2/" || failed ImproperOutput "the output directory $1 could not be copied whole: see above"; }""",
    "linked": """\
linked() { [ -e "$1" ] || [ -L "$1" ] || { mkdir -p -- "${1%/*}"; ln -s -- "$2" "$1"; }; }""",
    "copied": """\
copied() { mkdir -p -- "${1%/*}"; cp -- "$2" "$1"; chmod u+w -- "$1"; }""",
    "tools": """\
tools() { local from=$1 name; shift
  for name; do ! cmp -s -- "$from$name" "$name" 2>/dev/null || continue  # the image has it
    mkdir -p -- "${name%/*}"; cp -- "$from$name" "$name"; chmod 755 -- "$name"; done; }""",
    "files": """\
files() { local folder=$1 name; shift; for name; do file "$folder/$name"; done; }""",
    "filled": """\
filled() { [ -d "$1" ] || [ -s "$1" ] ||
  failed EmptyOutput "the output $1 is empty, and its rule ensures that it is not"; }""",
    "summed": (
        """\
summed() { local sum; sum=$("$2" < "$1") || failed NoChecksumTool "this image has no $2, which ensure() of $1 needs"
  [ "${sum%% *}" = "$3" ] || failed WrongChecksum "the output $1 has the checksum ${sum%% *}, its rule ensures $3"; }"""
    ),
}

# The columns of snakemake.benchmark.BenchmarkRecord. The process tree is looked at every half second, after 30 times
# every 30 s, as Snakemake does.
_BENCHMARK = r"""
measured() {
  local file=$1 command=$2 pid sleeper code=0 began=$(_uptime) cpu=$(_children) n=0 pause=0.5
  _rss=0 _vms=0 _uss=0 _pss=0 _in=0 _out=0 _seen=
  shift 2
  "$BASH" -c "$command" & pid=$!
  while [ -e "/proc/$pid/stat" ] && jobs -r %1 >/dev/null 2>&1; do
    _look "$pid"; n=$((n + 1)); [ "$n" -le 30 ] || pause=30
    sleep "$pause" & sleeper=$!
    wait -n "$pid" "$sleeper" || :
    kill "$sleeper" 2>/dev/null && wait "$sleeper" 2>/dev/null || :
  done
  wait "$pid" || code=$?
  [ "$code" = 0 ] || ended "$code" "$@"
  local s=$(($(_uptime) - began)) days load=NA; cpu=$(($(_children) - cpu)); days=$((s / 8640000))
  [ "$s" = 0 ] || load=$(_two $((cpu * 10000 / s)))
  { printf 's\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n%s\t' "$(_two "$s")"
    [ "$days" = 0 ] || printf '%d day%s, ' "$days" "$([ "$days" = 1 ] || echo s)"
    printf '%d:%02d:%02d' $((s / 360000 % 24)) $((s / 6000 % 60)) $((s / 100 % 60))
    for v in "$_rss" "$_vms" "$_uss" "$_pss"; do
      if [ -n "$_seen" ] && [ "$v" -gt 0 ]; then printf '\t%s' "$(_two $((v * 100 / 1024)))"; else printf '\tNA'; fi
    done
    for v in "$_in" "$_out"; do
      if [ -n "$_seen" ]; then printf '\t%s' "$(_two $((v * 100 / 1048576)))"; else printf '\tNA'; fi
    done
    printf '\t%s\t%s\n' "$load" "$(_two "$cpu")"
  } > "$file"
}
_two() { printf '%d.%02d' $(($1 / 100)) $(($1 % 100)); }
_uptime() { local up rest; read -r up rest < /proc/uptime; echo $((10#${up%.*}${up#*.})); }
_children() { local line; read -r line < "/proc/$$/stat"; set -- ${line##*) }; echo $((${14} + ${15})); }
_look() {
  local stat line pid tree=" $1 " rss=0 vms=0 uss=0 pss=0 in=0 out=0 k v rest
  for stat in /proc/[0-9]*/stat; do
    pid=${stat#/proc/}; pid=${pid%/stat}
    { read -r line < "$stat"; } 2>/dev/null || continue
    set -- ${line##*) }
    case "$tree" in *" $2 "*|*" $pid "*) ;; *) continue ;; esac
    tree="$tree$pid "
    while read -r k v rest; do case "$k" in VmRSS:) rss=$((rss + v)) ;; VmSize:) vms=$((vms + v)) ;; esac
    done 2>/dev/null < "/proc/$pid/status" || :
    while read -r k v rest; do case "$k" in Pss:) pss=$((pss + v)) ;; Private_*) uss=$((uss + v)) ;; esac
    done 2>/dev/null < "/proc/$pid/smaps_rollup" || :
    while read -r k v rest; do case "$k" in read_bytes:) in=$((in + v)) ;; write_bytes:) out=$((out + v)) ;; esac
    done 2>/dev/null < "/proc/$pid/io" || :
  done
  [ "$rss" = 0 ] || _seen=1
  [ "$rss" -le "$_rss" ] || _rss=$rss; [ "$vms" -le "$_vms" ] || _vms=$vms
  [ "$uss" -le "$_uss" ] || _uss=$uss; [ "$pss" -le "$_pss" ] || _pss=$pss
  _in=$in _out=$out
}
"""


def script(
    job: JobView,
    work: str,
    *,
    folders: Iterable[tuple[str, str]] = (),
    links: Iterable[tuple[str, str]] = (),
    copies: Iterable[tuple[str, str]] = (),
    detours: Iterable[str] = (),
    tools: tuple[str, Iterable[str]] = ("", ()),
) -> list[str]:
    """The arguments behind `bash -c`: the script, its name, and the commands (`$1`, `$2`, …), each as Snakemake would
    give it to bash. `folders` are directory outputs with the paths from where the TES takes them, `links` the
    workflow's symbolic links (path, target), `copies` the outputs that are changed in place (path, as it was),
    `detours` the folders that a path with `..` leads through, `tools` the workflow's programs, which come below the
    folder that is named first.
    """
    members = job.members or [job]
    body = [f"linked {shlex.quote(path)} {shlex.quote(target)}" for path, target in links]
    body += [f"mkdir -p -- {shlex.quote(folder)}" for folder in detours]
    body += [f"copied {shlex.quote(path)} {shlex.quote(before)}" for path, before in copies]
    if programs := sorted(tools[1]):
        body.append(f"tools {shlex.quote(tools[0])} {_words(programs)}")
    body += [
        line for number, m in enumerate(members, start=1) for line in _member(m, number, in_group=len(members) > 1)
    ]
    body += [f"moved {shlex.quote(made)} {shlex.quote(target)}" for made, target in folders]
    used = {line.partition(" ")[0] for line in body}
    lines = [
        f"mkdir -p -- {shlex.quote(work)}",
        f"cd -- {shlex.quote(work)}",
        _RUN,
        *(text for name, text in _HELPERS.items() if name in used),
    ]
    lines += [_BENCHMARK.strip(), *body] if "measured" in used else body
    return ["\n".join(lines), "task", *(str(m.shell) for m in members)]


def _member(job: JobView, number: int, *, in_group: bool) -> list[str]:
    rule = (
        shlex.quote(job.rule) if in_group else "''"
    )  # alone, the command's own last line of standard error stays the last
    written = [*job.outputs, *job.logs, *([job.benchmark] if job.benchmark else [])]
    folders = {str(PurePosixPath(f.local).parent) for f in written} - {"."}
    lines = []
    if folders:
        lines.append(f"mkdir -p -- {_words(folders)}")
    lines.append("export " + " ".join(f"{name}={job.threads}" for name in THREAD_VARIABLES))
    command = " ".join([f'"${{{number}}}"', rule, *(shlex.quote(f.local) for f in job.logs)])
    lines.append(f"measured {shlex.quote(job.benchmark.local)} {command}" if job.benchmark else f"run {command}")
    for touched in (f.local for f in (*job.logs, *(o for o in job.outputs if o.touch and not o.directory))):
        lines.append(f"[ -e {shlex.quote(touched)} ] && touch -- {shlex.quote(touched)} || : > {shlex.quote(touched)}")
    plain = [f for f in job.outputs if not (f.directory or f.non_empty or f.checksum)]
    if len(plain) > MANY:
        # By folder: the script of a rule with many outputs stays short.
        for folder in sorted({str(PurePosixPath(f.local).parent) for f in plain}):
            names = [PurePosixPath(f.local).name for f in plain if str(PurePosixPath(f.local).parent) == folder]
            lines.append(f"files {shlex.quote(folder)} {_words(names)}")
    for f in job.outputs:
        if len(plain) <= MANY or f not in plain:
            lines += _checks(f)
    return lines


def _checks(f: JobFile) -> list[str]:
    name = shlex.quote(f.local)
    lines = [f"mkdir -p -- {name}"] if f.directory and f.touch else []
    lines.append(f"folder {name}" if f.directory else f"file {name}")
    if f.non_empty:
        lines.append(f"filled {name}")
    if f.checksum:
        kind, _, checksum = f.checksum.partition(":")
        lines.append(f"summed {name} {SUMS[kind]} {shlex.quote(checksum)}")
    return lines


def _words(names: Iterable[str]) -> str:
    return " ".join(shlex.quote(n) for n in sorted(names))
