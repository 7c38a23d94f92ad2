// Where programs run.

import type { Worker } from "../api/client";

const KINDS: Record<string, string> = { local: "this machine", nomad: "Nomad node", pool: "warm worker" };

export function Workers({ workers }: { workers: Worker[] | undefined }) {
  return (
    <section class="card" aria-labelledby="workers">
      <h2 id="workers">Workers</h2>
      {workers?.length === 0 && <p class="hint">There is none: what is sent waits.</p>}
      {workers && workers.length > 0 && (
        <div class="wide" tabIndex={0} role="group" aria-labelledby="workers">
          <table>
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">Kind</th>
                <th scope="col">Health</th>
                <th scope="col" class="number">
                  Busy
                </th>
                <th scope="col">Languages</th>
                <th scope="col">Sandbox</th>
              </tr>
            </thead>
            <tbody>
              {workers.map((worker) => (
                <tr key={`${worker.kind} ${worker.id}`}>
                  <th scope="row">{worker.name}</th>
                  <td>{KINDS[worker.kind] ?? worker.kind}</td>
                  <td>
                    <span class={`chip ${worker.healthy ? "good" : "bad"}`}>
                      {worker.healthy ? "healthy" : "away"}
                    </span>
                  </td>
                  <td class="number">
                    {worker.busy ?? "–"}
                    {worker.slots !== undefined && ` of ${worker.slots}`}
                  </td>
                  <td class="breaks">{worker.languages?.join(", ") ?? "those of its tasks"}</td>
                  <td class="breaks">
                    <span class="layers">
                      {worker.layers.map((layer) => (
                        <span
                          key={layer.name}
                          class={`chip ${layer.active ? "good" : "bad"}`}
                          title={layer.detail}
                        >
                          {layer.name}
                          {!layer.active && ": off"}
                        </span>
                      ))}
                    </span>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
