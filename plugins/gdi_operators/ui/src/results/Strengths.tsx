// Statistics of variants or genes by position, drawn from the rows that the page has: the point that the pointer is
// near, or that the arrow keys reached, is said in words below.
import { useMemo, useRef, useState } from "react";
import { number, plural } from "../words";
import { useDrawing } from "./canvas";
import { Choice, entries, type Entry, numeral, short, ticks } from "./choices";
import { type AnswerPage } from "./data";

const [WIDTH, TALL, EDGE, FOOT] = [720, 260, 44, 30];

interface Point {
  x: number;
  y: number;
  odd: boolean;
  words: string;
}

const MODELS = { "one effect for all nodes": "MLOG10P", "effects that differ by node": "MLOG10P_RANDOM" } as const;
type Model = keyof typeof MODELS;

/** Where variants or genes lie, and how strong they are: from 0 to 1 both; names of chromosomes by their middle. */
function placed(rows: Entry[], model: Model): { points: Point[]; chroms: [number, string][]; top: number } {
  const spans = new Map<string, [number, number]>();
  for (const row of rows) {
    const [chrom, pos] = [String(row.CHROM), numeral(row.POS) ?? 0];
    const [low, high] = spans.get(chrom) ?? [pos, pos];
    spans.set(chrom, [Math.min(low, pos), Math.max(high, pos)]);
  }
  const whole = [...spans.values()].reduce((sum, [low, high]) => sum + high - low + 1, 0) || 1;
  const starts = new Map<string, [number, boolean]>();
  const chroms: [number, string][] = [];
  let from = 0;
  for (const [chrom, [low, high]] of spans) {
    const width = (high - low + 1) / whole;
    starts.set(chrom, [from - low / whole, starts.size % 2 === 1]);
    if (width > 0.02) chroms.push([from + width / 2, chrom]);
    from += width;
  }
  const column = MODELS[model];
  const top = rows.reduce((most, row) => Math.max(most, numeral(row[column]) ?? 0), 1) * 1.05;
  const points = rows.map((row) => {
    const [start, odd] = starts.get(String(row.CHROM))!;
    const strength = numeral(row[column]) ?? 0;
    const words =
      `${row.CHROM}:${row.POS} ${row.REF}>${row.ALT}: −log10 P ${short(strength)}, n ${row.N},` +
      ` frequency ${short(numeral(row.AF))}, beta ${short(numeral(row.BETA))} ± ${short(numeral(row.SE))},` +
      ` I² ${short(numeral(row.I2))}, ${plural(numeral(row.NODES) ?? 0, "node")} (${row.DIRECTION})`;
    return { x: start + (numeral(row.POS) ?? 0) / whole, y: strength / top, odd, words };
  });
  return { points, chroms, top };
}

export function Strengths({ answer }: { answer: AnswerPage }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const rows = useMemo(() => entries(answer), [answer]);
  const [model, choose] = useState<Model>("one effect for all nodes");
  const [at, go] = useState(-1); // the point that is said in words
  const { points, chroms, top } = useMemo(() => placed(rows, model), [rows, model]);
  const order = useMemo(() => points.map((_, i) => i).sort((a, b) => points[b]!.y - points[a]!.y), [points]);
  const px = (x: number) => EDGE + x * (WIDTH - EDGE - 10);
  const py = (y: number) => TALL - FOOT - y * (TALL - FOOT - 10);
  const draw = (pen: CanvasRenderingContext2D, look: CSSStyleDeclaration) => {
    for (const { x, y, odd } of points) {
      pen.globalAlpha = odd ? 0.5 : 0.9;
      pen.fillStyle = look.color;
      pen.fillRect(px(x) - 1.3, py(y) - 1.3, 2.6, 2.6);
    }
    const one = points[at];
    if (!one) return;
    pen.globalAlpha = 1;
    pen.strokeStyle = look.borderTopColor;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(px(one.x), py(one.y), 6, 0, 2 * Math.PI);
    pen.stroke();
  };
  useDrawing(canvas, WIDTH, TALL, draw, [points, at]);
  const nearest = (left: number, above: number) => {
    let [best, least] = [-1, 12 ** 2];
    points.forEach((point, i) => {
      const far = (px(point.x) - left) ** 2 + (py(point.y) - above) ** 2;
      if (far < least) [best, least] = [i, far];
    });
    return best;
  };
  const step = (by: number) => go(order[(order.indexOf(at) + by + order.length) % order.length] ?? -1);
  return (
    <figure className="groups">
      <figcaption className="filters">
        <Choice name="Model" all={Object.keys(MODELS)} value={model} onChange={(name) => choose(name as Model)} />
      </figcaption>
      <div
        className="over"
        tabIndex={0}
        role="group"
        aria-label={`Strength of ${number(points.length)} results by position; the arrow keys go from the strongest on`}
        onMouseMove={(e) => {
          const box = e.currentTarget.getBoundingClientRect();
          const scale = WIDTH / box.width;
          go(nearest((e.clientX - box.left) * scale, (e.clientY - box.top) * scale));
        }}
        onKeyDown={(e) => {
          if (e.key !== "ArrowRight" && e.key !== "ArrowLeft") return;
          e.preventDefault();
          step(e.key === "ArrowRight" || at < 0 ? 1 : -1);
        }}
      >
        <svg viewBox={`0 0 ${WIDTH} ${TALL}`} aria-hidden="true">
          <g className="frame">
            {ticks(0, top).map((value) => (
              <g key={value}>
                <line x1={EDGE} x2={WIDTH - 10} y1={py(value / top)} y2={py(value / top)} />
                <text x={EDGE - 6} y={py(value / top) + 3.5} textAnchor="end">
                  {short(value)}
                </text>
              </g>
            ))}
            {chroms.map(([x, label]) => (
              <text key={label} x={px(x)} y={TALL - FOOT + 14} textAnchor="middle">
                {label}
              </text>
            ))}
            <text x={WIDTH / 2} y={TALL - 3} textAnchor="middle">
              −log10 P by chromosome and position
            </text>
          </g>
        </svg>
        <canvas ref={canvas} aria-hidden="true" />
      </div>
      <output className="readout" aria-live="polite">
        {points[at]?.words ?? "Point at a result for its numbers, or go from the strongest on with the arrow keys."}
      </output>
    </figure>
  );
}
