import { withNode } from '../node/operator.ts';
import { type Approvable, type Commands, commandOn, signedBy } from './command.ts';

/** Generations of the CAs. */
export const authorityCommands: Commands = (program) => {
  commandOn(
    program,
    'generation',
    'add a key for both CAs, under the same names; a running service takes it up by itself',
  )
    .requiredOption('--suite <name>', 'rsa2048-sha256 or p384-sha384')
    .option(...signedBy)
    .action(async ({ data, suite, approvedBy }: Approvable & { suite: string }) =>
      withNode(data, 'generation', 'the service', async (node) => {
        const { makeGeneration } = await import('../node/guarded-acts.ts');
        for (const line of await makeGeneration(node, suite, approvedBy ?? []))
          process.stdout.write(`${line}\n`);
      }),
    );
  commandOn(program, 'links', 'issue the link certificates that are missing between generations').action(
    async ({ data }: { data: string }) =>
      withNode(data, 'links', 'the service', async (node) => {
        const { linkGenerations } = await import('../node/generation.ts');
        for (const name of await linkGenerations(node)) process.stdout.write(`${name}\n`);
      }),
  );
};
