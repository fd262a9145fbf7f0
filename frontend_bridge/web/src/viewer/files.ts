/** What the person dropped or chose, folders included, as a flat list of files. */

/** Files that travel with studies and are never images. */
const NOISE = /^(\.|__MACOSX|Thumbs\.db$|DICOMDIR$|autorun\.inf$)/i;

export async function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  // Entries must be taken in the event itself: the list is gone after the first await.
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (entries.length === 0) return chosenFiles(transfer.files);
  const files = await Promise.all(entries.map(filesOf));
  return files.flat().filter(isWanted);
}

export function chosenFiles(list: FileList | null): File[] {
  return Array.from(list ?? []).filter(isWanted);
}

const isWanted = (file: File): boolean => file.size > 0 && !NOISE.test(file.name);

async function filesOf(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) {
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: File[] = [];
  for (;;) {
    // readEntries answers at most 100 at a time, and an empty list at the end.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return found;
    for (const one of some) found.push(...(await filesOf(one)));
  }
}
