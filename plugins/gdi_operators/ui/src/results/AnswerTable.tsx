// The merged answer, row by row; only what is in sight is made.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type CSSProperties, useMemo, useRef, useState } from "react";
import { number } from "../words";
import { type AnswerPage, brief } from "./data";

/** Columns of one width, as many as there are; what does not fit is scrolled to. */
function wide(columns: number): CSSProperties {
  return {
    "--columns": `repeat(${columns}, minmax(4.5rem, 1fr))`,
    "--wide": `${columns * 5.5}rem`,
  } as CSSProperties;
}

export function AnswerTable({ answer }: { answer: AnswerPage }) {
  const [words, search] = useState("");
  const scroll = useRef<HTMLDivElement>(null);
  const rows = useMemo(() => {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    if (!wanted.length) return answer.rows;
    return answer.rows.filter((row) => {
      const text = row
        .map((cell) => cell ?? "")
        .join(" ")
        .toLowerCase();
      return wanted.every((word) => text.includes(word));
    });
  }, [answer, words]);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => 30,
    overscan: 8,
  });
  const cut = answer.total > answer.rows.length;
  return (
    <>
      <div className="filters" role="search" aria-label="Filter the answer">
        <input
          type="search"
          aria-label="Search the answer"
          placeholder="Search in all columns …"
          maxLength={100}
          value={words}
          onChange={(e) => search(e.target.value)}
        />
        <output aria-live="polite">
          {words ? `${number(rows.length)} of ${number(answer.rows.length)} rows` : `${number(answer.total)} rows`}
          {cut && `; the first ${number(answer.rows.length)} are shown, the file answer.tsv has all`}
        </output>
      </div>
      <div
        className="grid answer"
        role="table"
        aria-label="The merged answer"
        aria-rowcount={rows.length + 1}
        tabIndex={0}
        ref={scroll}
        style={wide(answer.columns.length)}
      >
        <div role="rowgroup" className="head">
          <div role="row" aria-rowindex={1} className="line">
            {answer.columns.map((name) => (
              <span key={name} role="columnheader">
                {name}
              </span>
            ))}
          </div>
        </div>
        <div role="rowgroup" className="body" style={{ height: virtual.getTotalSize() }}>
          {virtual.getVirtualItems().map((item) => {
            const row = rows[item.index]!;
            return (
              <div
                key={item.index}
                role="row"
                aria-rowindex={item.index + 2}
                className="line"
                style={{ transform: `translateY(${item.start}px)` }}
              >
                {row.map((cell, i) => (
                  <span
                    key={i}
                    role="cell"
                    className={cell === null ? "soft" : undefined}
                    title={String(cell ?? "not told exactly")}
                  >
                    {brief(cell)}
                  </span>
                ))}
              </div>
            );
          })}
        </div>
        {!rows.length && (
          <p className="empty">
            {answer.total ? "No row is like that." : "The answer is empty: nothing was released."}
          </p>
        )}
      </div>
    </>
  );
}
