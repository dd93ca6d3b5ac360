// How the run stands and why, in one sentence, above everything else: the same as in the portal. And the button that
// stops it, which asks first.
import { useEffect, useState } from "react";
import { read, Refused, stopRun } from "./api";
import { type Standing } from "./contract";

const OVER = ["succeeded", "empty", "failed", "refused", "stopped"];
const BAD = ["failed", "refused", "stopped"];

export function useStanding(): Standing | null {
  const [found, set] = useState<Standing | null>(null);
  useEffect(() => {
    let stopped = false;
    let timer = 0;
    const poll = async () => {
      let pause = 5000;
      try {
        const standing = await read<Standing>("data/standing");
        if (stopped) return;
        set(standing);
        if (OVER.includes(standing.standing)) pause = 15000; // somebody may clear it
      } catch {
        pause = 15000; // the page itself says what is away
      }
      if (!stopped) timer = window.setTimeout(() => void poll(), document.hidden ? 15000 : pause);
    };
    void poll();
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }, []);
  return found;
}

/** Nothing is green in such a run. */
export function endedBadly(standing: Standing | null): boolean {
  return standing !== null && BAD.includes(standing.standing);
}

export function Why({ standing, stop = false }: { standing: Standing | null; stop?: boolean }) {
  if (!standing) return null;
  const goesOn = !OVER.includes(standing.standing) && standing.standing !== "stopping";
  return (
    <div id="why">
      <p className="lead" role="status">
        <strong>{standing.sentence}</strong> {standing.next_step}
      </p>
      {stop && goesOn && <Stop />}
    </div>
  );
}

function Stop() {
  const [asking, ask] = useState(false);
  const [said, say] = useState("");
  const end = async () => {
    ask(false);
    try {
      await stopRun();
      say("The run is being stopped.");
    } catch (error) {
      say(error instanceof Refused ? error.message : "The run could not be stopped; try again.");
    }
  };
  if (said) return <p role="status">{said}</p>;
  if (!asking)
    return (
      <button type="button" className="plain" onClick={() => ask(true)}>
        Stop the run
      </button>
    );
  return (
    <p role="group" aria-label="Stop the run?">
      Stop it? Its tasks at every node are cancelled.{" "}
      <button type="button" className="plain" onClick={() => void end()}>
        Yes, stop it
      </button>{" "}
      <button type="button" className="plain" autoFocus onClick={() => ask(false)}>
        No
      </button>
    </p>
  );
}
