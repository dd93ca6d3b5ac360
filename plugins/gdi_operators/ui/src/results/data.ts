// What the Results page is told, as gdi/contracts/results.py says it.
import type { AnswerPage } from "../contract";

export type { AnswerPage, ReleaseView, ResultsView } from "../contract";
export type Cell = AnswerPage["rows"][number][number];

/** An answer of a kind that is drawn here. */
export type Drawn = AnswerPage & { histogram: number[]; points: NonNullable<AnswerPage["points"]> };
