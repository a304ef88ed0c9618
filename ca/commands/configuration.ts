import { type CommandAnswer, inWords } from '../node/command-answer.ts';
import { answers, type Commands, commandOn } from './command.ts';

/** What a data folder is configured by. */
export const configurationCommands: Commands = (program) => {
  const config = program.command('config').description('the configuration of a data folder');
  const check = commandOn(config, 'check', 'check it, and name every fault at once; starts nothing');
  answers(check, async ({ data }: { data: string }) => {
    const { checkFolder } = await import('../node/configuration-check.ts');
    return inWords(checkFolder(data));
  });
  const show = commandOn(config, 'show', 'print what holds in the end, with defaults: JSON');
  answers(show, async ({ data }: { data: string }) => {
    const { effective } = await import('../node/configuration-check.ts');
    return asDocument(effective(data));
  });
  for (const [name, description] of [
    ['schema', 'print its JSON Schema'],
    ['example', 'print it with every key, its default and what it means, as comments'],
  ] as const) {
    const printing = config
      .command(name)
      .argument('[kind]', 'ca, ocsp or crl', 'ca')
      .description(description);
    answers(printing, async (kind: string) => {
      const { documents, exampleOf, schemaOf } = await import('../config/document.ts');
      const { fail } = await import('../../core/config/read.ts');
      if (!Object.hasOwn(documents, kind)) fail(`there is no configuration of ${kind}: ca, ocsp or crl`);
      const of = kind as keyof typeof documents;
      if (name === 'schema') return asDocument(schemaOf(of));
      const example = exampleOf(of);
      return { lines: [example.trimEnd()], value: { example } };
    });
  }
  const doctor = commandOn(
    program,
    'doctor',
    'write what a person who helps needs to see, without secrets and without personal data',
  ).option('--out <file>', 'where it goes; default: warifu-doctor-TIME.tar.gz here');
  answers(doctor, async (options: { data: string; out?: string }) => {
    const { writeDoctor } = await import('../node/doctor.ts');
    const bundle = await writeDoctor(options);
    return { lines: [bundle], value: { bundle } };
  });
};

/** What is JSON already: set out for a person, in one line for a program. */
const asDocument = (json: string): CommandAnswer => ({
  lines: [json.trimEnd()],
  value: JSON.parse(json) as object,
});
