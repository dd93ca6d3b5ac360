// The page of all nodes has no data to fetch: it wears Airflow's dress.
import { dress } from "./dress";

dress();
