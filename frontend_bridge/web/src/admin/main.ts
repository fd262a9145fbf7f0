/** The live table of workers in the Django admin. */

import "./workers.css";

import { SegmentationClient } from "../client";
import { WorkersTable } from "./workers";

const place = document.getElementById("live-workers");
if (place) {
  const table = new WorkersTable(place, document.documentElement.lang.startsWith("ko") ? "ko" : "en");
  const client = new SegmentationClient({ onConnection: (state) => table.setConnection(state) });
  client.watchWorkers({
    onWorkers: (workers) => table.setWorkers(workers),
    onTrouble: (trouble) => table.setTrouble(trouble.detail),
  });
}
