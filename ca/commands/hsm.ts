import type { ModuleCheckOptions } from '../node/module-check.ts';
import { answers, type Commands } from './command.ts';

/** What is asked of PKCS#11 modules. */
export const hsmCommands: Commands = (program) => {
  const check = program
    .command('hsm')
    .description('PKCS#11 modules and their tokens')
    .command('check')
    .description(
      'see whether a vendor’s PKCS#11 module does what the CA needs, with keys that are made for it on one token, and removed',
    )
    .requiredOption('--token <label>', 'label of a token that has a user PIN; not one with a CA’s keys')
    .option('--module <file>', 'the module; default: WARIFU_PKCS11_MODULE, or SoftHSM')
    .option('--pin-file <file>', 'file with the user PIN; default: standard input')
    .option('--report <file>', 'write all of it as JSON, to be sent to us');
  answers(check, async (options: ModuleCheckOptions) => {
    const { runModuleCheck } = await import('../node/module-check.ts');
    return runModuleCheck(options);
  });
};
