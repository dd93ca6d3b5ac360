// The pages' script and style sheet, and the card of the home page, with the digest of what they were made from beside them: a test compares it with the
// sources.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const HERE = import.meta.dirname;
const MADE_OF = ["build.mjs", "package-lock.json", "package.json", "tsconfig.json"];

/** The same as `gdi_operators.ui.digest()`: names and contents of all sources, in order. */
function digest() {
  const sources = readdirSync(join(HERE, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(HERE.length + 1));
  const total = createHash("sha256");
  for (const name of [...MADE_OF, ...sources].sort()) {
    const data = readFileSync(join(HERE, name));
    total.update(`${name}\0${data.length}\0`).update(data);
  }
  return total.digest("hex");
}

await build({
  entryPoints: {
    gdi: join(HERE, "src", "main.tsx"),
    home: join(HERE, "src", "home", "home.ts"),
    nodes: join(HERE, "src", "nodes.ts"),
  },
  outdir: join(HERE, "dist"),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  charset: "utf8",
  legalComments: "eof",
  define: { "process.env.NODE_ENV": '"production"' },
});
writeFileSync(join(HERE, "dist", "sources.sha256"), `${digest()}\n`);
