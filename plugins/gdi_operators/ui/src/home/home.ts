// The card "Your runs" on Airflow's home page. Airflow loads this file as a module, and lends it its own React and
// Chakra UI: the card wears Airflow's dress, and hooks work.
import type * as ReactModule from "react";

interface HomeRun {
  dag_id: string;
  dag_run_id: string;
  title: string;
  state: string;
  since: number;
}
interface HomeRuns {
  runs: HomeRun[];
  workflows: { dag_id: string; title: string }[];
}
type Parts = Record<"Badge" | "Box" | "Heading" | "HStack" | "Link" | "Text" | "VStack", ReactModule.ElementType>;

const lent = globalThis as unknown as { React: typeof ReactModule; ChakraUI: Parts; AirflowPlugin?: unknown };
const { createElement: h, useEffect, useState } = lent.React;
const { Badge, Box, Heading, HStack, Link, Text, VStack } = lent.ChakraUI;
const EVERY = 10_000; // milliseconds between two reads
const HUE: Record<string, string> = { success: "green", failed: "red", running: "blue", queued: "gray" };

/** The answer, or the sentence of why there is none. */
async function read(): Promise<HomeRuns | string> {
  try {
    const answer = await fetch(new URL("gdi/data/home", document.baseURI), {
      credentials: "same-origin",
      headers: { Accept: "application/json" },
    });
    if (answer.ok) return (await answer.json()) as HomeRuns;
    return answer.status === 401 ? "You are not signed in any more." : `Airflow answered ${answer.status}.`;
  } catch {
    return "Airflow does not answer; trying again.";
  }
}

const tab = (run: HomeRun): string =>
  new URL(
    `dags/${encodeURIComponent(run.dag_id)}/runs/${encodeURIComponent(run.dag_run_id)}/plugin/gdi-` +
      (run.state === "success" ? "results" : "jobs"),
    document.baseURI,
  ).href;

function row(run: HomeRun): ReactModule.ReactElement {
  return h(
    HStack,
    { key: `${run.dag_id}/${run.dag_run_id}`, gap: 3, as: "li" },
    h(Badge, { colorPalette: HUE[run.state] ?? "gray", minW: "5rem", justifyContent: "center" }, run.state),
    h(Link, { href: tab(run), color: "fg.info" }, run.title),
    h(Text, { color: "fg.muted", fontSize: "sm" }, new Date(run.since * 1000).toLocaleString()),
  );
}

function starts(workflows: HomeRuns["workflows"]): ReactModule.ReactElement {
  const links = workflows.map(({ dag_id, title }) =>
    h(
      Link,
      { key: dag_id, href: new URL(`dags/${encodeURIComponent(dag_id)}`, document.baseURI).href, color: "fg.info" },
      title,
    ),
  );
  const words = workflows.length > 0 ? "Open an analysis and press Trigger:" : "No analysis is open to you.";
  return h(HStack, { gap: 3, flexWrap: "wrap" }, h(Text, null, words), ...links);
}

function HomeCard(): ReactModule.ReactElement {
  const [found, setFound] = useState<HomeRuns | string | null>(null);
  useEffect(() => {
    let over = false;
    const once = async () => {
      const answer = await read();
      if (!over) setFound(answer);
    };
    void once();
    const timer = setInterval(() => void once(), EVERY);
    return () => {
      over = true;
      clearInterval(timer);
    };
  }, []);
  const body =
    found === null
      ? h(Text, { color: "fg.muted" }, "…")
      : typeof found === "string"
        ? h(Text, { role: "status" }, found)
        : h(
            VStack,
            { align: "stretch", gap: 2 },
            found.runs.length > 0
              ? h(VStack, { as: "ul", align: "stretch", gap: 1, listStyleType: "none" }, ...found.runs.map(row))
              : h(Text, null, "You have started no analysis yet."),
            starts(found.workflows),
          );
  return h(
    Box,
    {
      borderWidth: "1px",
      borderRadius: "md",
      p: 4,
      as: "section",
      "aria-label": "Your runs",
      "data-testid": "gdi-home",
    },
    h(Heading, { size: "md", mb: 2 }, "Your runs"),
    body,
  );
}

lent.AirflowPlugin = HomeCard;
