// Files that a program left: pictures are shown, all can be saved.

import { useEffect, useState } from "preact/hooks";
import { api, type CollectedFile, type Submission } from "../api/client";
import { Plain } from "../shared/plain";
import { size } from "../shared/words";

/** By the ends of names: what a browser shows as a picture, in which nothing is run. */
const PICTURES: Record<string, string> = {
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  bmp: "image/bmp",
  svg: "image/svg+xml",
};

const pictureType = (path: string): string | undefined => {
  const end = /\.([a-z]+)$/.exec(path.toLowerCase())?.[1];
  return end !== undefined && Object.hasOwn(PICTURES, end) ? PICTURES[end] : undefined;
};

export function Files({ submission }: { submission: Submission }) {
  const files = submission.outcome?.files ?? [];
  if (files.length === 0) return null;
  return (
    <section class="files" aria-label="Files">
      <h2>Files</h2>
      <ul>
        {files.map((file) => (
          <li key={file.path}>
            <File id={submission.id} file={file} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function File({ id, file }: { id: string; file: CollectedFile }) {
  if (file.missed !== undefined) {
    return (
      <p class="missed">
        <span class="path">
          <Plain text={file.path} inline />
        </span>{" "}
        {file.missed}
      </p>
    );
  }
  const type = pictureType(file.path);
  const address = `/v1/submissions/${id}/files?path=${encodeURIComponent(file.path)}`;
  return (
    <>
      <p>
        <a class="path" href={address} download={file.path.slice(file.path.lastIndexOf("/") + 1)}>
          <Plain text={file.path} inline />
        </a>{" "}
        <span class="size">{size(file.bytes)}</span>
      </p>
      {type && <Picture id={id} path={file.path} type={type} />}
    </>
  );
}

function Picture({ id, path, type }: { id: string; path: string; type: string }) {
  const [source, setSource] = useState<string>();
  useEffect(() => {
    let isOver = false;
    const params = { path: { id }, query: { path } };
    const read = async () => {
      const { data } = await api
        .GET("/v1/submissions/{id}/files", { params, parseAs: "arrayBuffer" })
        .catch(() => ({ data: undefined }));
      if (!data || isOver) return;
      const reader = new FileReader();
      reader.onload = () => {
        if (!isOver) setSource(reader.result as string);
      };
      reader.readAsDataURL(new Blob([data], { type }));
    };
    void read();
    return () => {
      isOver = true;
    };
  }, [id, path, type]);
  return source === undefined ? null : <img src={source} alt={path} />;
}
