import { type Commands, commandOn } from './command.ts';

/** Further nodes of a service. */
export const nodeCommands: Commands = (program) => {
  commandOn(
    program,
    'join',
    'make a data folder that of a further node of a service whose record is in PostgreSQL',
  ).action(async ({ data }: { data: string }) => {
    const { joinService } = await import('../node/join.ts');
    const lines = await joinService(data);
    process.stdout.write(lines.map((line) => `${line}\n`).join(''));
  });
};
