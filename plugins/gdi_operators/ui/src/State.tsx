// A state: its sign, its word, its colour.
import { SIGNS, type Kind } from "./words";

export function State({ kind, word }: { kind: Kind; word: string }) {
  return (
    <span className={`state ${kind}`}>
      <span aria-hidden="true" className="sign">
        {SIGNS[kind]}
      </span>
      {word}
    </span>
  );
}
