// All jobs, only those in sight made: one tab stop, arrow keys move from row to row, Enter opens one.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, memo, useEffect, useRef } from "react";
import { State } from "../State";
import { bytes, clock, moment, number, span } from "../words";
import { JOB, type Row } from "./feed";
import { LogLink } from "./LogLink";
import { type Column, type Order, took } from "./select";

const HEIGHT = 34;
const SLOTS = 256; // more than are ever in sight: a row that scrolls out gives its elements to the one that comes in
const COLUMNS: readonly (readonly [Column, string, string])[] = [
  ["state", "State", ""],
  ["node", "Node", ""],
  ["rule", "Rule", ""],
  ["label", "Wildcards", ""],
  ["started_at", "Began", "number"],
  ["took", "Took", "number"],
  ["tries", "Tries", "number"],
  ["cpu_seconds", "CPU", "number"],
  ["memory_bytes", "Memory", "number"],
];

const Line = memo(function Line({ row, now, logs }: { row: Row; now: number; logs: Record<string, string> }) {
  const [kind, word] = JOB[row.state] ?? ["waiting", row.state];
  const seconds = took(row, now);
  return (
    <>
      <span role="gridcell">
        <State kind={kind} word={word} />
      </span>
      <span role="gridcell">{row.node}</span>
      <span role="gridcell" title={row.rule}>
        {row.rule}
      </span>
      <span role="gridcell" className="soft" title={row.label}>
        {row.label}
      </span>
      <span role="gridcell" className="number" title={row.started_at ? moment(row.started_at) : undefined}>
        {row.started_at ? clock(row.started_at) : ""}
      </span>
      <span role="gridcell" className="number">
        {seconds === undefined ? "" : span(seconds)}
      </span>
      <span role="gridcell" className="number">
        {row.tries ?? ""}
      </span>
      <span role="gridcell" className="number">
        {row.cpu_seconds === undefined ? "" : span(row.cpu_seconds)}
      </span>
      <span role="gridcell" className="number">
        {row.memory_bytes === undefined ? "" : bytes(row.memory_bytes)}
      </span>
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
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => scroll.current, estimateSize: () => HEIGHT, overscan: 8 });
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
    const moves: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: rows.length - 1 };
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
    >
      <div role="rowgroup" className="head">
        <div role="row" aria-rowindex={1} className="line">
          {COLUMNS.map(([column, name, kind]) => (
            <span key={column} role="columnheader" className={kind} aria-sort={order.by === column ? (order.down ? "descending" : "ascending") : "none"}>
              <button type="button" className="sort" onClick={head(column)}>
                {name}
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
      {!rows.length && <p className="empty">{props.all ? `None of the ${number(props.all)} jobs is like that.` : "No job has been sent to a node yet."}</p>}
    </div>
  );
}
