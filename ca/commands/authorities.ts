import { inWords } from '../node/command-answer.ts';
import { withNode } from '../node/operator.ts';
import { type Approvable, answers, type Commands, commandOn, signedBy } from './command.ts';

/** Generations of the CAs. */
export const authorityCommands: Commands = (program) => {
  const generation = commandOn(
    program,
    'generation',
    'add a key for both CAs, under the same names; a running service takes it up by itself',
  )
    .requiredOption('--suite <name>', 'rsa2048-sha256 or p384-sha384')
    .option(...signedBy);
  answers(generation, ({ data, suite, approvedBy }: Approvable & { suite: string }) =>
    withNode(data, 'generation', 'the service', async (node) => {
      const { makeGeneration } = await import('../node/guarded-acts.ts');
      return inWords(await makeGeneration(node, suite, approvedBy ?? []));
    }),
  );
  const links = commandOn(
    program,
    'links',
    'issue the link certificates that are missing between generations',
  );
  answers(links, ({ data }: { data: string }) =>
    withNode(data, 'links', 'the service', async (node) => {
      const { linkGenerations } = await import('../node/generation.ts');
      const certificates = await linkGenerations(node);
      return { lines: certificates, value: { certificates } };
    }),
  );
};
