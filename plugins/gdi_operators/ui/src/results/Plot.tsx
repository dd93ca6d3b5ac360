// The answer as two drawings: how frequent alleles are, and where they lie. Drawn here, so that they wear the page's
// dress; the file answer.png is for papers.
import { useMemo, useRef } from "react";
import { number } from "../words";
import { useDrawing } from "./canvas";
import { type AnswerPage, type Drawn } from "./data";
import { isDrawnFromRows, KindPlot } from "./KindPlot";

const WIDTH = 480;
const HEIGHT = 190;
const [LEFT, RIGHT, TOP, FOOT] = [46, 8, 10, 30];

function Frame({ xTicks, yTicks, xLabel }: { xTicks: [number, string][]; yTicks: [number, string][]; xLabel: string }) {
  const x = (part: number) => LEFT + part * (WIDTH - LEFT - RIGHT);
  const y = (part: number) => HEIGHT - FOOT - part * (HEIGHT - TOP - FOOT);
  return (
    <g className="frame">
      {yTicks.map(([at, label]) => (
        <g key={at}>
          <line x1={x(0)} x2={x(1)} y1={y(at)} y2={y(at)} />
          <text x={x(0) - 6} y={y(at) + 3.5} textAnchor="end">
            {label}
          </text>
        </g>
      ))}
      {xTicks.map(([at, label]) => (
        <text key={at} x={x(at)} y={HEIGHT - FOOT + 14} textAnchor="middle">
          {label}
        </text>
      ))}
      <text x={x(0.5)} y={HEIGHT - 3} textAnchor="middle" className="label">
        {xLabel}
      </text>
    </g>
  );
}

function Histogram({ answer }: { answer: Drawn }) {
  const most = Math.max(...answer.histogram, 1);
  const step = (WIDTH - LEFT - RIGHT) / answer.histogram.length;
  const tall = HEIGHT - TOP - FOOT;
  const known = answer.histogram.reduce((sum, count) => sum + count, 0);
  return (
    <figure>
      <figcaption>How frequent the alternate alleles are</figcaption>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={
          `Histogram of ${number(known)} allele frequencies from 0 to 1;` +
          ` the tallest bar has ${number(most)} alleles`
        }
      >
        <Frame
          xTicks={[0, 0.25, 0.5, 0.75, 1].map((v) => [v, String(v)])}
          yTicks={[0, 0.5, 1].map((v) => [v, number(Math.round(v * most))])}
          xLabel="alternate allele frequency"
        />
        {answer.histogram.map((count, i) => {
          const height = (count / most) * tall;
          return (
            <rect
              key={i}
              className="bar-of"
              x={LEFT + i * step + 0.5}
              width={Math.max(step - 1, 0.5)}
              y={HEIGHT - FOOT - height}
              height={height}
            />
          );
        })}
      </svg>
    </figure>
  );
}

function Positions({ answer }: { answer: Drawn }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { spread, ticks, one } = useMemo(() => {
    const spans = new Map<string, [number, number]>();
    for (const [chrom, pos] of answer.points) {
      const [low, high] = spans.get(chrom) ?? [pos, pos];
      spans.set(chrom, [Math.min(low, pos), Math.max(high, pos)]);
    }
    const whole = [...spans.values()].reduce((sum, [low, high]) => sum + (high - low) + 1, 0) || 1;
    let from = 0;
    const starts = new Map<string, number>();
    const marks: [number, string][] = [];
    for (const [chrom, [low, high]] of spans) {
      const width = (high - low + 1) / whole;
      starts.set(chrom, from - low / whole);
      if (spans.size === 1)
        for (const part of [0, 0.25, 0.5, 0.75, 1])
          marks.push([part, ((low + part * (high - low)) / 1e6).toPrecision(4)]);
      else if (width > 0.03) marks.push([from + width / 2, chrom]);
      from += width;
    }
    const place = answer.points.map(([chrom, pos, af]) => [starts.get(chrom)! + pos / whole, af] as const);
    return { spread: place, ticks: marks, one: spans.size === 1 ? [...spans.keys()][0] : "" };
  }, [answer]);
  const draw = (pen: CanvasRenderingContext2D, look: CSSStyleDeclaration) => {
    const [wide, tall] = [WIDTH - LEFT - RIGHT, HEIGHT - TOP - FOOT];
    pen.globalAlpha = 0.65;
    for (const [at, af] of spread) {
      pen.fillStyle = af === null ? look.borderTopColor : look.color;
      if (af === null) pen.fillRect(LEFT + at * wide - 0.5, HEIGHT - FOOT - 4, 1, 6);
      else pen.fillRect(LEFT + at * wide - 1, TOP + (1 - af) * tall - 1, 2.2, 2.2);
    }
  };
  useDrawing(canvas, WIDTH, HEIGHT, draw, [spread]);
  const unknown = answer.points.some(([, , af]) => af === null);
  return (
    <figure>
      <figcaption>Where they lie{unknown && <span className="key">no exact frequency</span>}</figcaption>
      <div className="over">
        <svg
          viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
          role="img"
          aria-label={
            `Allele frequencies by position${one ? ` on ${one}` : ""};` +
            ` ${number(answer.withheld)} alleles are known as intervals`
          }
        >
          <Frame
            xTicks={ticks}
            yTicks={[0, 0.5, 1].map((v) => [v, String(v)])}
            xLabel={one ? `position on ${one} (Mb)` : "chromosome"}
          />
        </svg>
        <canvas ref={canvas} aria-hidden="true" />
      </div>
    </figure>
  );
}

function drawn(answer: AnswerPage): answer is Drawn {
  return answer.histogram !== null && answer.points !== null;
}

/** `picture`: the address of the picture of a kind that is not drawn here; empty where there is none. */
export function Plot({ answer, picture }: { answer: AnswerPage; picture: string }) {
  if (!answer.total) return null;
  if (!drawn(answer)) {
    if (isDrawnFromRows(answer)) return <KindPlot answer={answer} />;
    return picture ? (
      <figure className="picture">
        <img src={picture} alt="The answer, as a picture; the table below has its numbers" />
      </figure>
    ) : null;
  }
  return (
    <div className="plots">
      <Histogram answer={answer} />
      <Positions answer={answer} />
    </div>
  );
}
