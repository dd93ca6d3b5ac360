// What the Results page is told, as gdi/contracts/results.py says it.
import type { AnswerPage } from "../contract";

export type { AnswerPage, ReleaseView, ResultsView } from "../contract";
export type Cell = AnswerPage["rows"][number][number];

/** An answer of a kind that is drawn here. */
export type Drawn = AnswerPage & { histogram: number[]; points: NonNullable<AnswerPage["points"]> };

/** A cell as a table has room for it: a number with a fraction by six digits. */
export function brief(cell: Cell): string | number {
  if (cell === null) return "–";
  return typeof cell === "number" && !Number.isInteger(cell) ? Number(cell.toPrecision(6)) : cell;
}
