// A merged answer of many rows, in pages that the server reads from the Parquet file; a region where one is named.
import { useEffect, useState } from "react";
import { read, Refused } from "../api";
import type { AnswerRows } from "../contract";
import { number } from "../words";
import { type AnswerPage, brief } from "./data";

const SIZE = 200;

/** Digits and separators as people type them; null where it is no position. */
function position(text: string): number | null {
  const digits = text.replace(/[\s,_]/g, "");
  return /^\d{1,10}$/.test(digits) ? Number(digits) : null;
}

export function AnswerPages({ answer }: { answer: AnswerPage }) {
  const [chrom, choose] = useState("");
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const [start, go] = useState(0);
  const [page, show] = useState<AnswerRows | null>(null);
  const [problem, tell] = useState("");
  const low = position(from);
  const high = position(to);
  const wrong = (from !== "" && low === null) || (to !== "" && high === null);
  useEffect(() => {
    if (wrong) return;
    let stopped = false;
    const query = new URLSearchParams({ start: String(start), count: String(SIZE) });
    if (chrom) {
      query.set("chrom", chrom);
      if (low !== null) query.set("low", String(low));
      if (high !== null) query.set("high", String(high));
    }
    const timer = window.setTimeout(() => {
      read<AnswerRows>("data/rows", `?${query.toString()}`).then(
        (found) => {
          if (!stopped) (show(found), tell(""));
        },
        (error: unknown) => {
          if (!stopped) tell(error instanceof Refused ? error.message : "This page of the answer could not be read.");
        },
      );
    }, 200);
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }, [chrom, low, high, start, wrong]);
  const total = page?.total ?? answer.total;
  const rows = page?.rows ?? answer.rows.slice(0, SIZE);
  const first = page?.start ?? 0;
  const change = (set: (value: string) => void) => (value: string) => {
    set(value);
    go(0);
  };
  return (
    <>
      <div className="filters" role="search" aria-label="A region of the answer">
        <select aria-label="Chromosome" value={chrom} onChange={(e) => change(choose)(e.target.value)}>
          <option value="">all chromosomes</option>
          {(answer.regions ?? []).map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
        <input
          aria-label="From position"
          placeholder="from position"
          inputMode="numeric"
          maxLength={16}
          disabled={!chrom}
          value={from}
          onChange={(e) => change(setFrom)(e.target.value)}
        />
        <input
          aria-label="To position"
          placeholder="to position"
          inputMode="numeric"
          maxLength={16}
          disabled={!chrom}
          value={to}
          onChange={(e) => change(setTo)(e.target.value)}
        />
        <button type="button" disabled={first === 0} onClick={() => go(Math.max(0, first - SIZE))}>
          Previous
        </button>
        <button type="button" disabled={first + SIZE >= total} onClick={() => go(first + SIZE)}>
          Next
        </button>
        <output aria-live="polite">
          {problem ||
            (wrong
              ? "A position is a whole number."
              : total
                ? `rows ${number(first + 1)} to ${number(first + rows.length)} of ${number(total)}`
                : "No row is there.")}
        </output>
      </div>
      <div className="scroll">
        <table aria-label="The merged answer">
          <thead>
            <tr>
              {answer.columns.map((name) => (
                <th scope="col" key={name}>
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row, at) => (
              <tr key={first + at}>
                {row.map((cell, i) => (
                  <td key={i} className={cell === null ? "soft" : undefined} title={String(cell ?? "not told exactly")}>
                    {brief(cell)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
