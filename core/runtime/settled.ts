/** Resolves once all have settled; rejects with what the first of them rejected with. One that fails holds up no other. */
export async function settled(all: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(all)).find((each) => each.status === 'rejected');
  if (failed) throw failed.reason;
}
