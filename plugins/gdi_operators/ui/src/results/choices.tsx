// What pictures that are drawn from an answer's rows share: rows by the names of their columns, numbers, a choice.
import { type AnswerPage, type Cell } from "./data";

export type Entry = Record<string, Cell>;

export function entries(answer: AnswerPage): Entry[] {
  return answer.rows.map((row) => Object.fromEntries(answer.columns.map((name, i) => [name, row[i] ?? null])));
}

export const numeral = (cell: Cell | undefined): number | null => (typeof cell === "number" ? cell : null);
export const short = (value: number | null): string => (value === null ? "–" : String(Number(value.toPrecision(4))));

/** Round numbers from `low` to `high`, some four of them. */
export function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 4 || 1;
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * ten).find((one) => one >= rough) ?? rough;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

export function Choice({
  name,
  all,
  value,
  onChange,
}: {
  name: string;
  all: string[];
  value: string;
  onChange: (value: string) => void;
}) {
  return (
    <label>
      {name}{" "}
      <select value={value} onChange={(e) => onChange(e.target.value)}>
        {all.map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
    </label>
  );
}
