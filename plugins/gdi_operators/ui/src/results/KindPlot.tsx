// Answers of people by cells and of means, drawn from the rows that the page has: what the pointer or the keyboard is
// on is said in words below, and what is drawn can be chosen.
import { useMemo, useState } from "react";
import { number, plural } from "../words";
import { Choice, entries, type Entry, numeral, short, ticks } from "./choices";
import { type AnswerPage } from "./data";
import { Strengths } from "./Strengths";

const WIDTH = 720;
const MOST = 60; // bars or means at once
const [LEFT, RIGHT, ROW] = [230, 60, 20];

/** Pairs of column and level that a row is told by. */
function pairs(row: Entry): [string, string][] {
  return [1, 2, 3, 4]
    .map((n) => [row[`COLUMN_${n}`], row[`LEVEL_${n}`]] as const)
    .filter(([column]) => column !== null && column !== undefined && column !== "")
    .map(([column, level]) => [String(column), String(level ?? "")]);
}

const grouping = (row: Entry) =>
  pairs(row)
    .map(([column]) => column)
    .join(" × ") || "everybody";
const level = (row: Entry) =>
  pairs(row)
    .map(([, name]) => name)
    .join(" × ") || "everybody";

interface Bar {
  label: string;
  words: string;
  low: number;
  high: number;
  at: number | null; // the value itself; null where only its bounds are known
}

/** Horizontal bars from `base` to the value, or a mean with its spread. */
function Bars({ bars, mean, axis }: { bars: Bar[]; mean: boolean; axis: string }) {
  const [seen, see] = useState("");
  const rows = bars.slice(0, MOST);
  const highest = Math.max(...rows.map((bar) => bar.high));
  const lowest = mean ? Math.min(...rows.map((bar) => bar.low)) : 0;
  const span = highest - lowest || 1;
  const x = (value: number) => LEFT + ((value - lowest) / span) * (WIDTH - LEFT - RIGHT);
  const height = rows.length * ROW + 36;
  return (
    <>
      <svg viewBox={`0 0 ${WIDTH} ${height}`} role="group" aria-label={axis}>
        <g className="frame">
          {ticks(lowest, highest).map((value) => (
            <g key={value}>
              <line x1={x(value)} x2={x(value)} y1={0} y2={rows.length * ROW} />
              <text x={x(value)} y={rows.length * ROW + 14} textAnchor="middle">
                {short(value)}
              </text>
            </g>
          ))}
          <text x={LEFT + (WIDTH - LEFT - RIGHT) / 2} y={height - 4} textAnchor="middle">
            {axis}
          </text>
        </g>
        {rows.map((bar, i) => {
          const y = i * ROW + ROW / 2;
          return (
            <g
              key={`${i} ${bar.label}`}
              className="mark"
              tabIndex={0}
              role="img"
              aria-label={bar.words}
              onMouseEnter={() => see(bar.words)}
              onFocus={() => see(bar.words)}
            >
              <rect className="reach" x={0} width={WIDTH} y={i * ROW} height={ROW} />
              <text x={LEFT - 8} y={y + 4} textAnchor="end">
                {bar.label.length > 34 ? `${bar.label.slice(0, 33)}…` : bar.label}
              </text>
              {mean ? (
                <>
                  <line x1={x(bar.low)} x2={x(bar.high)} y1={y} y2={y} className="spread" />
                  <circle cx={x(bar.at ?? bar.low)} cy={y} r={4.5} className="bar-of" />
                </>
              ) : (
                <>
                  <rect x={x(0)} width={x(bar.at ?? bar.low) - x(0)} y={y - 6} height={12} className="bar-of" />
                  {bar.at === null && (
                    <rect x={x(bar.low)} width={x(bar.high) - x(bar.low)} y={y - 6} height={12} className="between" />
                  )}
                </>
              )}
            </g>
          );
        })}
      </svg>
      <output className="readout" aria-live="polite">
        {seen || "Point at a row, or go there with the tabulator key, for its numbers."}
        {bars.length > MOST && ` Drawn are the first ${MOST} of ${number(bars.length)}; the table has all.`}
      </output>
    </>
  );
}

function cellBar(row: Entry): Bar {
  const at = numeral(row.PEOPLE);
  const low = numeral(row.PEOPLE_MIN) ?? 0;
  const high = numeral(row.PEOPLE_MAX) ?? low;
  const bounds = row.PEOPLE_MAX === null ? `at least ${number(low)}` : `between ${number(low)} and ${number(high)}`;
  const people = at === null ? `${bounds} people` : `${number(at)} people`;
  const words = `${level(row)}: ${people}, told by ${plural(numeral(row.NODES) ?? 0, "node")}`;
  return { label: level(row), words, low, high, at };
}

function meanBar(row: Entry): Bar {
  const [at, sd] = [numeral(row.MEAN) ?? 0, numeral(row.SD) ?? 0];
  const quartiles = [row.Q1, row.MEDIAN, row.Q3].map((cell) => short(numeral(cell)));
  const words =
    `${level(row)}: n ${number(numeral(row.N) ?? 0)}, mean ${short(at)}, SD ${short(sd)},` +
    ` quartiles ${quartiles.join(", ")}, ${plural(numeral(row.NODES) ?? 0, "node")}`;
  return { label: level(row), words, low: at - sd, high: at + sd, at };
}

/** Groups of people: counts of cells (`TABLE`), or means of variables (`VARIABLE`). */
function Groups({ answer, of }: { answer: AnswerPage; of: "TABLE" | "VARIABLE" }) {
  const rows = useMemo(() => entries(answer), [answer]);
  const names = useMemo(() => [...new Set(rows.map((row) => String(row[of])))], [rows, of]);
  const [name, choose] = useState(names[0] ?? "");
  const mine = rows.filter((row) => row[of] === name);
  const groupings = [...new Set(mine.map(grouping))];
  const [by, group] = useState("");
  const now = groupings.includes(by) ? by : (groupings.find((one) => one !== "everybody") ?? groupings[0] ?? "");
  const bars = mine.filter((row) => grouping(row) === now).map(of === "TABLE" ? cellBar : meanBar);
  if (!bars.length) return null;
  return (
    <figure className="groups">
      <figcaption className="filters">
        <Choice name={of === "TABLE" ? "Table" : "Variable"} all={names} value={name} onChange={choose} />
        <Choice name="by" all={groupings} value={now} onChange={group} />
      </figcaption>
      <Bars
        key={`${name} ${now}`}
        bars={bars}
        mean={of === "VARIABLE"}
        axis={of === "TABLE" ? `people by ${now}` : `${name}: mean and one standard deviation, by ${now}`}
      />
    </figure>
  );
}

/** Whether the rows of the answer are all here, and of a kind that is drawn from them. */
export function isDrawnFromRows(answer: AnswerPage): boolean {
  const has = (...names: string[]) => names.every((name) => answer.columns.includes(name));
  const kinds = has("TABLE", "PEOPLE") || has("VARIABLE", "MEAN") || has("CHROM", "MLOG10P", "BETA");
  return kinds && answer.rows.length > 0 && answer.rows.length === answer.total;
}

export function KindPlot({ answer }: { answer: AnswerPage }) {
  if (answer.columns.includes("TABLE")) return <Groups answer={answer} of="TABLE" />;
  if (answer.columns.includes("VARIABLE")) return <Groups answer={answer} of="VARIABLE" />;
  return <Strengths answer={answer} />;
}
