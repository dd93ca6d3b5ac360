// Which page this is, in Airflow's dress.
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { PAGE } from "./api";
import { dress } from "./dress";
import { JobsPage } from "./jobs/JobsPage";
import { ResultsPage } from "./results/ResultsPage";
import "./style.css";

dress();
createRoot(document.getElementById("root")!).render(
  <StrictMode>{PAGE === "results" ? <ResultsPage /> : <JobsPage />}</StrictMode>,
);
