import { type Commands, commandOn } from './command.ts';

/** What a data folder is configured by. */
export const configurationCommands: Commands = (program) => {
  const config = program.command('config').description('the configuration of a data folder');
  commandOn(config, 'check', 'check it, and name every fault at once; starts nothing').action(
    async ({ data }: { data: string }) => {
      const { checkFolder } = await import('../node/configuration-check.ts');
      process.stdout.write(
        checkFolder(data)
          .map((line) => `${line}\n`)
          .join(''),
      );
    },
  );
  commandOn(config, 'show', 'print what holds in the end, with defaults: JSON').action(
    async ({ data }: { data: string }) => {
      const { effective } = await import('../node/configuration-check.ts');
      process.stdout.write(effective(data));
    },
  );
  for (const [name, description] of [
    ['schema', 'print its JSON Schema'],
    ['example', 'print it with every key, its default and what it means, as comments'],
  ] as const)
    config
      .command(name)
      .argument('[kind]', 'ca, ocsp or crl', 'ca')
      .description(description)
      .action(async (kind: string) => {
        const { documents, exampleOf, schemaOf } = await import('../config/document.ts');
        const { fail } = await import('../../core/config/read.ts');
        if (!Object.hasOwn(documents, kind)) fail(`there is no configuration of ${kind}: ca, ocsp or crl`);
        const of = kind as keyof typeof documents;
        process.stdout.write(name === 'schema' ? schemaOf(of) : exampleOf(of));
      });
  commandOn(
    program,
    'doctor',
    'write what a person who helps needs to see, without secrets and without personal data',
  )
    .option('--out <file>', 'where it goes; default: warifu-doctor-TIME.tar.gz here')
    .action(async (options: { data: string; out?: string }) => {
      const { writeDoctor } = await import('../node/doctor.ts');
      process.stdout.write(`${await writeDoctor(options)}\n`);
    });
};
