// All jobs, only those in sight made: one tab stop, arrow keys move from row to row, Enter opens one.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type CSSProperties, type KeyboardEvent, memo, useEffect, useRef } from "react";
import { number } from "../words";
import { TABLE, WIDTHS } from "./facts";
import { type Row } from "./feed";
import { LogLink } from "./LogLink";
import { type Column, type Order } from "./select";

const HEIGHT = 34;
const SLOTS = 256; // more than are ever in sight: a row that scrolls out gives its elements to the one that comes in
const Line = memo(function Line({ row, now, logs }: { row: Row; now: number; logs: Record<string, string> }) {
  return (
    <>
      {TABLE.map((fact) => (
        <span
          key={fact.column.by}
          role="gridcell"
          className={fact.column.number ? "number" : fact.column.by === "label" ? "soft" : undefined}
          title={fact.hint?.(row)}
        >
          {(fact.cell ?? fact.show)(row, now) ?? ""}
        </span>
      ))}
      <span role="gridcell">
        <LogLink job={row} logs={logs} />
      </span>
    </>
  );
});

interface Props {
  rows: Row[];
  all: number;
  order: Order;
  onOrder: (order: Order) => void;
  active: string;
  onActive: (id: string) => void;
  onOpen: (id: string) => void;
  logs: Record<string, string>;
  now: number;
}

export function JobTable(props: Props) {
  const { rows, active, order } = props;
  const scroll = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => HEIGHT,
    overscan: 8,
  });
  const at = rows.findIndex((r) => r.id === active);
  const follow = useRef(false);
  useEffect(() => {
    if (follow.current && at >= 0) virtual.scrollToIndex(at, { align: "auto" });
    follow.current = false;
  }, [at, virtual]);

  function go(index: number): void {
    const row = rows[Math.min(Math.max(index, 0), rows.length - 1)];
    if (!row) return;
    follow.current = true;
    props.onActive(row.id);
  }
  function keys(event: KeyboardEvent): void {
    if (event.target !== event.currentTarget) return;
    const page = Math.max(1, Math.floor((scroll.current?.clientHeight ?? HEIGHT) / HEIGHT) - 2);
    const moves: Record<string, number> = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: rows.length - 1,
    };
    const to = moves[event.key];
    if (to !== undefined) go(to);
    else if (event.key === "Enter" && at >= 0) props.onOpen(active);
    else return;
    event.preventDefault();
  }
  const head = (column: Column) => () => props.onOrder({ by: column, down: order.by === column ? !order.down : false });
  const shown = virtual.getVirtualItems();
  return (
    <div
      className="grid"
      role="grid"
      aria-label="Jobs"
      aria-rowcount={rows.length + 1}
      aria-activedescendant={shown.some((v) => v.index === at) ? `job-${at}` : undefined}
      tabIndex={0}
      ref={scroll}
      onKeyDown={keys}
      id="jobs-grid"
      style={{ "--columns": WIDTHS } as CSSProperties}
    >
      <div role="rowgroup" className="head">
        <div role="row" aria-rowindex={1} className="line">
          {TABLE.map(({ column: { by: column, title, number: numeric } }) => (
            <span
              key={column}
              role="columnheader"
              className={numeric ? "number" : ""}
              aria-sort={order.by === column ? (order.down ? "descending" : "ascending") : "none"}
            >
              <button type="button" className="sort" onClick={head(column)}>
                {title}
                <span aria-hidden="true">{order.by === column ? (order.down ? " ↓" : " ↑") : ""}</span>
              </button>
            </span>
          ))}
          <span role="columnheader">Log</span>
        </div>
      </div>
      <div role="rowgroup" className="body" style={{ height: virtual.getTotalSize() }}>
        {shown.map((item) => {
          const row = rows[item.index]!;
          return (
            <div
              key={item.index % SLOTS}
              id={`job-${item.index}`}
              role="row"
              aria-rowindex={item.index + 2}
              aria-selected={row.id === active}
              className="line"
              style={{ transform: `translateY(${item.start}px)` }}
              onClick={() => {
                props.onActive(row.id);
                props.onOpen(row.id);
              }}
            >
              <Line row={row} now={row.state === "running" ? props.now : 0} logs={props.logs} />
            </div>
          );
        })}
      </div>
      {!rows.length && (
        <p className="empty">
          {props.all ? `None of the ${number(props.all)} jobs is like that.` : "No job has been sent to a node yet."}
        </p>
      )}
    </div>
  );
}
